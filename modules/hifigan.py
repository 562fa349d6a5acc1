"""HiFi-GAN's generator (arXiv 2010.05646) with zero padding: transformers' network, and its lighter block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig


class HifiganGenerator(nn.Module):
    """[B, C, N] -> wav [B, N * product of the rates] in (-1, 1), with weight norm.

    ``transformers.SpeechT5HifiGan`` computes just this; its mean and scale, which are 0 and 1, are left out of the
    state, and ``resblock_type`` "2" has blocks of its own.

    Args:
        channels: C.
        upsample_factors, upsample_kernel_sizes: of the transposed convolutions, each of which halves the channels.
        upsample_initial_channel: before the first of them.
        resblock_kernel_sizes, resblock_dilation_sizes: of the blocks behind each, whose mean is taken.
        resblock_type: ``"1"`` or ``"2"``.

    Raises:
        ValueError: sizes that do not fit together; or a kernel and its factor differ by an odd number, so that a frame
            would not become a whole number of samples.
    """

    def __init__(
        self,
        *,
        channels: int,
        upsample_factors: Sequence[int],
        upsample_kernel_sizes: Sequence[int],
        upsample_initial_channel: int,
        resblock_kernel_sizes: Sequence[int],
        resblock_dilation_sizes: Sequence[Sequence[int]],
        resblock_type: str = "1",
    ):
        super().__init__()
        if resblock_type not in ("1", "2"):
            raise ValueError(f'resblock_type must be "1" or "2", got {resblock_type!r}')
        if len(upsample_factors) != len(upsample_kernel_sizes):
            raise ValueError(
                f"upsample_factors {list(upsample_factors)} and upsample_kernel_sizes {list(upsample_kernel_sizes)} "
                "must be equally many"
            )
        if len(resblock_kernel_sizes) != len(resblock_dilation_sizes):
            raise ValueError(
                f"resblock_kernel_sizes {list(resblock_kernel_sizes)} and resblock_dilation_sizes "
                f"{[list(x) for x in resblock_dilation_sizes]} must be equally many"
            )
        odd = [(f, k) for f, k in zip(upsample_factors, upsample_kernel_sizes, strict=True) if k < f or (k - f) % 2]
        if odd:
            raise ValueError(
                "upsample_kernel_sizes must be upsample_factors and an even number more; not so (factor, kernel): "
                f"{odd}"
            )
        if upsample_initial_channel % 2 ** len(upsample_factors):
            raise ValueError(
                f"upsample_initial_channel {upsample_initial_channel} cannot be halved {len(upsample_factors)} times"
            )
        self.upsampling = math.prod(upsample_factors)
        sizes = list(zip(upsample_factors, upsample_kernel_sizes, strict=True))
        spans = [
            sum((k - 1) // 2 * (d + (resblock_type == "1")) for d in dilations)
            for k, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes, strict=True)
        ]
        self.context = _context(sizes, max(spans))
        self.network = SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=channels,
                upsample_initial_channel=upsample_initial_channel,
                upsample_rates=list(upsample_factors),
                upsample_kernel_sizes=list(upsample_kernel_sizes),
                resblock_kernel_sizes=list(resblock_kernel_sizes),
                resblock_dilation_sizes=[list(x) for x in resblock_dilation_sizes],
                normalize_before=False,
            )
        )
        for name in ("mean", "scale"):
            delattr(self.network, name)
        if resblock_type == "2":
            sizes = list(zip(resblock_kernel_sizes, resblock_dilation_sizes, strict=True))
            self.network.resblocks = nn.ModuleList(
                ResidualBlock2(upsample_initial_channel // 2 ** (stage + 1), kernel, dilations)
                for stage in range(len(upsample_factors))
                for kernel, dilations in sizes
            )
        for layer in self.layers():
            layer.reset_parameters()  # as torch does, and as the published training begins
            weight_norm(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x.transpose(1, 2))

    def layers(self) -> list[nn.Module]:
        """The convolutions, all of which have weight norm."""
        return [m for m in self.network.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]

    def fold_weight_norm(self) -> None:
        """Weight norm is for training: the weights are the same without it."""
        for layer in self.layers():
            if parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight")


def _context(sizes: Sequence[tuple[int, int]], span: int) -> int:
    """Frames on either side that a sample can depend on.

    Args:
        sizes: factor and kernel of each upsampling.
        span: values on either side that the widest block sees.
    """
    reach = 3  # of the last convolution
    for factor, kernel in reversed(sizes):
        reach = -(-(reach + span + kernel - 1) // factor)
    return reach + 3  # of the first one


class ResidualBlock2(nn.Module):
    """Leaky ReLU, dilated convolution, sum; once for each dilation."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int], *, slope: float = 0.1):
        super().__init__()
        self.slope = slope
        self.convs = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=d, padding=(kernel - 1) * d // 2) for d in dilations
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = x + conv(F.leaky_relu(x, self.slope))
        return x
