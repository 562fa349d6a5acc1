"""What LiMuSE is built of: layers whose weights may be quantised, group communication, and blocks with context.

Shapes: R rows, which are examples or blocks of them; K groups; n channels of a group; h hidden ones; F frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from models.limuse.quantiser import round_activations

TOGETHER = 16  # blocks; measured, see benchmarks.limuse
NORM_EPS = 1e-8  # of all norms but TAC's, whose is torch's default


class Layer:
    """What convolutions and linear layers have in common: a weight in whose place its quantised values can stand.

    Attributes:
        quantised: the values that are used instead of ``weight``, for one pass; None: the weight itself.
    """

    quantised: torch.Tensor | None = None

    @property
    def weight_in_use(self) -> torch.Tensor:
        return self.weight if self.quantised is None else self.quantised


class Conv1d(Layer, nn.Conv1d):
    """A convolution, [R, channels, F]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv1d(x, self.weight_in_use, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Linear(Layer, nn.Linear):
    """A linear layer over the last axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight_in_use, self.bias)


class ChannelLinear(Layer, nn.Linear):
    """A linear layer over channels, [R, channels, F]: a convolution of length 1 whose weight has two axes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv1d(x, self.weight_in_use[..., None], self.bias)


class SharedLinear(Layer, nn.Linear):
    """A linear layer over the channels of each group and those of a mean that all groups share, as if concatenated."""

    def forward(self, x: torch.Tensor, shared: torch.Tensor | None = None) -> torch.Tensor:
        """[R, K, h, F] and [R, h, F] -> [R, K, n, F]; what is shared is computed once. Or both concatenated already."""
        weight, own = self.weight_in_use[..., None], x.flatten(0, 1)
        if shared is None:
            return F.conv1d(own, weight, self.bias).unflatten(0, x.shape[:2])
        of_own, of_shared = weight.split(x.shape[2], dim=1)
        return F.conv1d(own, of_own).unflatten(0, x.shape[:2]) + F.conv1d(shared, of_shared, self.bias)[:, None]


class GlobalNorm(nn.Module):
    """Mean and biased variance over channels and frames of each example, [B, D, F].

    Args:
        channels: D.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(x, dim=(1, 2), keepdim=True, correction=0)
        return self.weight * (x - mean) / torch.sqrt(variance + NORM_EPS) + self.bias


class TAC(nn.Module):
    """Transform, average, concatenate (arXiv 1910.14104): each group hears the mean of all.

    Args:
        channels: n.
        hidden: h.
        activation_bits: of what enters and of what is concatenated; None: not rounded.
    """

    def __init__(self, *, channels: int, hidden: int, activation_bits: int | None):
        super().__init__()
        self.TAC_input = nn.Sequential(ChannelLinear(channels, hidden), nn.PReLU())
        self.TAC_mean = nn.Sequential(ChannelLinear(hidden, hidden), nn.PReLU())
        self.TAC_output = nn.Sequential(SharedLinear(2 * hidden, channels), nn.PReLU())
        self.TAC_norm = nn.GroupNorm(1, channels)
        self.bits = activation_bits

    def forward(self, x: torch.Tensor, examples: int) -> torch.Tensor:
        """[R, K, n, F] -> [R, K, n, F]."""
        rows, groups = x.shape[:2]
        z = self.TAC_input(round_activations(x, self.bits, examples).flatten(0, 1)).unflatten(0, (rows, groups))
        mean = self.TAC_mean(z.mean(dim=1))  # of z as it is
        linear, nonlinearity = self.TAC_output
        if self.bits is None:
            made = linear(z, mean)
        else:  # in one product: as two, the last bits would follow from the batch, and roundings from them
            z = round_activations(z, self.bits, examples)
            both = torch.cat([z, mean[:, None].expand(-1, groups, -1, -1)], dim=2)
            made = linear(round_activations(both, self.bits, examples))
        return x + self.TAC_norm(nonlinearity(made).flatten(0, 1)).view(x.shape)


class TCNBlock(nn.Module):
    """Convolutions of length 1, 3 (depthwise, dilated) and 1 with a residual, the same for each group.

    Args:
        channels: n.
        hidden: of the depthwise convolution.
        dilation: in frames.
        activation_bits: of what enters the three; None: not rounded.
    """

    def __init__(self, *, channels: int, hidden: int, dilation: int, activation_bits: int | None):
        super().__init__()
        self.conv1d = Conv1d(channels, hidden, 1)
        self.nonlinearity1 = nn.PReLU()
        self.reg1 = nn.GroupNorm(1, hidden, eps=NORM_EPS)
        self.dconv1d = Conv1d(hidden, hidden, 3, padding=dilation, dilation=dilation, groups=hidden)
        self.nonlinearity2 = nn.PReLU()
        self.reg2 = nn.GroupNorm(1, hidden, eps=NORM_EPS)
        self.res_out = Conv1d(hidden, channels, 1)
        self.bits = activation_bits

    def forward(self, x: torch.Tensor, examples: int) -> torch.Tensor:
        """[R K, n, F] -> [R K, n, F]."""
        y = self.reg1(self.nonlinearity1(self.conv1d(round_activations(x, self.bits, examples))))
        y = self.reg2(self.nonlinearity2(self.dconv1d(round_activations(y, self.bits, examples))))
        return x + self.res_out(round_activations(y, self.bits, examples))


class GroupTCN(nn.Module):
    """Group communication and TCN blocks in turn (GC-TCN, arXiv 2012.07291); without groups, TCN blocks alone.

    Args:
        channels: D, which the number of groups divides.
        hidden: H, of all groups together; divided too.
        layers: blocks with dilations 1, 2, 4 ...
        repeats: of these.
        groups: K; None: no groups.
        activation_bits: see the blocks.
    """

    def __init__(
        self, *, channels: int, hidden: int, layers: int, repeats: int, groups: int | None, activation_bits: int | None
    ):
        super().__init__()
        self.groups = groups
        parts, bits = groups or 1, activation_bits
        n, h = channels // parts, hidden // parts
        if groups:
            tacs = [TAC(channels=n, hidden=3 * h, activation_bits=bits) for _ in range(repeats * layers)]
            self.TAC = nn.ModuleList(tacs)
        self.TCN = nn.ModuleList(
            TCNBlock(channels=n, hidden=h, dilation=2**i, activation_bits=bits)
            for _ in range(repeats)
            for i in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, D, F] -> [B, D, F]; or blocks, each by itself: [B, S, D, F] -> [B, S, D, F]."""
        shape, examples, groups = x.shape, x.shape[0], self.groups or 1
        x = x.reshape(-1, groups, shape[-2] // groups, shape[-1])
        for i, block in enumerate(self.TCN):
            if self.groups:
                x = self.TAC[i](x, examples)
            x = block(x.flatten(0, 1), examples).view(x.shape)
        return x.reshape(shape)


def with_context(
    x: torch.Tensor, encode: nn.Module, core: nn.Module, decode: nn.Module, size: int, *, rounds: bool = False
) -> torch.Tensor:
    """The context codec: a slow core sees the means of overlapping blocks, and all that is quick is done within them.

    Args:
        x: [B, D, F].
        encode, decode: [B, S, D, size] -> the same.
        core: [B, D, S] -> the same.
        size: frames of a block, an even number.
        rounds: activations are rounded over all blocks of an example, which so must be computed together.

    Returns:
        [B, D, F].
    """
    frames, hop = x.shape[-1], size // 2
    halves = (
        2 * ((frames + hop) // size) + 3
    )  # S + 1: as published, 1 to size zeros follow the frames before the padding
    x = F.pad(x, (hop, halves * hop - hop - frames)).unflatten(-1, (halves, hop)).transpose(1, 2)
    blocks = torch.cat([x[:, :-1], x[:, 1:]], dim=-1)  # [B, S, D, size]
    together = _together(blocks, rounds)
    parts = [encode(some).mean(dim=-1) for some in blocks.split(together, dim=1)] if together else None
    context = core(torch.cat(parts, dim=1).transpose(1, 2) if parts else encode(blocks).mean(dim=-1).transpose(1, 2))
    blocks = blocks + context.transpose(1, 2)[..., None]
    blocks = torch.cat([decode(some) for some in blocks.split(together, dim=1)], dim=1) if together else decode(blocks)
    # Each stretch of a hop is the second half of one block and the first of the next, but for the padding at both ends.
    joined = blocks[:, 1:, :, :hop] + blocks[:, :-1, :, hop:]
    return joined.transpose(1, 2).flatten(2)[..., :frames]


def _together(blocks: torch.Tensor, rounds: bool) -> int:
    """How many blocks of an example are computed together, since what is made of them stays in a processor's cache; 0:
    all, where they depend on each other, gradients are kept, or a graph is made."""
    if rounds or torch.is_grad_enabled() or blocks.device.type != "cpu" or torch.compiler.is_exporting():
        return 0
    return TOGETHER if blocks.shape[1] > TOGETHER else 0
