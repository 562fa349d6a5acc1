"""SEANet with weights that no longer change: matrix products on frames with their channels last."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from modules.frozen_linear import FrozenLinear
from modules.seanet import PaddedConv1d, ResidualBlock, ResidualLSTM, UpConv1d
from modules.snake import Snake, snake

Layer = Callable[[torch.Tensor], torch.Tensor]


class FrozenLayers:
    """Layers of ``modules.seanet``, but LSTMs, for use: weight norm is computed once, and convolutions are products.

    They give what the layers themselves give, to the rounding of float32: [B, L, C] -> [B, L', C'].

    Args:
        layers: in the order in which they follow each other.
    """

    def __init__(self, layers: Sequence[nn.Module]):
        self._layers = [_frozen(layer) for layer in layers]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self._layers:
            x = layer(x)
        return x


class _Convolution:
    def __init__(self, module: PaddedConv1d):
        self._module = module
        self._product = FrozenLinear(module.conv)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        (size,), (dilation,), stride = self._module.conv.kernel_size, self._module.conv.dilation, self._module.stride
        if size > 1 or stride > 1:
            left, right, zeros = self._module.padding(x.shape[1])
            x = mirror_ends(x, left, right, zeros)
            batch, length, channels = x.shape
            count = (length - (size - 1) * dilation - 1) // stride + 1
            steps = (x.stride(0), stride * channels, dilation * channels, 1)
            x = x.as_strided((batch, count, size, channels), steps).reshape(batch, count, size * channels)
        return self._product(x)


class _UpConvolution:
    """Each sample hears two frames: those before and after the place where their windows meet."""

    def __init__(self, module: UpConv1d):
        self._module = module
        self._product = FrozenLinear(module.convtr)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        batch, frames, channels = x.shape
        around = x.new_zeros(batch, frames + 2, channels)
        around[:, 1:-1] = x
        pairs = around.as_strided((batch, frames + 1, 2 * channels), (around.stride(0), channels, 1))
        y = self._product(pairs.contiguous())  # [B, frames + 1, stride * outputs]
        y = y.view(batch, (frames + 1) * self._module.stride, -1)
        return y[:, self._module.cut : self._module.cut + frames * self._module.stride]


class _Block:
    def __init__(self, module: ResidualBlock):
        self._block = FrozenLayers(module.block)
        self._shortcut = _Convolution(module.shortcut)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._shortcut(x) + self._block(x)


def _frozen(module: nn.Module) -> Layer:
    kinds: dict[type[nn.Module], Callable[[nn.Module], Layer]] = {
        PaddedConv1d: _Convolution,
        UpConv1d: _UpConvolution,
        ResidualBlock: _Block,
        nn.ELU: lambda elu: functools.partial(F.elu, alpha=elu.alpha),
        Snake: lambda module: lambda x: snake(x, module.alpha.transpose(1, 2)),
    }
    return kinds[type(module)](module)


def mirror_ends(x: torch.Tensor, left: int, right: int, zeros: int = 0) -> torch.Tensor:
    """As ``PaddedConv1d`` pads, but along the second dimension: [B, L, C] -> [B, left + L + right, C], contiguous.

    Args:
        left, right: what is mirrored.
        zeros: put at the right end first, and as many cut off there in the end.
    """
    batch, length, channels = x.shape
    padded = x.new_empty(batch, left + length + zeros + right, channels)
    whole = padded[:, left : left + length + zeros]
    whole[:, :length] = x
    whole[:, length:] = 0
    if left:
        padded[:, :left] = whole[:, 1 : left + 1].flip(1)
    if right:
        padded[:, left + length + zeros :] = whole[:, -right - 1 : -1].flip(1)
    return padded[:, : padded.shape[1] - zeros] if zeros else padded


def reach(layers: Sequence[nn.Module], *, rate: int) -> int:
    """How far a frame of the layers' slowest rate can hear, in these frames, on either side; rounded up.

    Args:
        layers: of an encoder (strides down) or a decoder (up), without LSTM.
        rate: samples a frame at the faster end.
    """
    distance = 0.0  # in samples
    step = 1 if not any(isinstance(layer, UpConv1d) for layer in layers) else rate  # samples between two values
    for layer in layers:
        for conv in layer.modules():
            if isinstance(conv, PaddedConv1d):
                distance += step * (conv.conv.kernel_size[0] - 1) * conv.conv.dilation[0]
                step *= conv.stride
            elif isinstance(conv, UpConv1d):
                distance += step
                step //= conv.stride
    return math.ceil(distance / rate)


def lstm_rows(module: ResidualLSTM, x: torch.Tensor, lengths: Sequence[int] | None = None) -> torch.Tensor:
    """``module`` on a padded batch, as it computes each row alone.

    Args:
        x: [B, N, C].
        lengths: frames of each row; None: all are whole.

    Returns:
        [B, N, C or 2 C]; what lies beyond a row's length is meaningless.
    """
    lstm = module.lstm
    if lengths is None or not lstm.bidirectional or set(lengths) == {x.shape[1]}:
        y, _ = lstm(x.contiguous())
    elif x.device.type == "cpu":  # where packed sequences are computed by slower code
        y = _both_ways(lstm, x, torch.tensor(lengths))
    else:
        packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=x.shape[1])
    return y + (torch.cat([x, x], dim=-1) if lstm.bidirectional else x)


def _both_ways(lstm: nn.LSTM, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Every row begins with its own first frame, and backwards with its own last one."""
    places = torch.arange(x.shape[1])
    backwards = torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)[..., None]
    for layer in range(lstm.num_layers):
        ahead = _one_way(lstm, x, f"_l{layer}")
        back = _one_way(lstm, x.gather(1, backwards.expand_as(x)), f"_l{layer}_reverse")
        x = torch.cat([ahead, back.gather(1, backwards.expand_as(back))], dim=-1)
    return x


def _one_way(lstm: nn.LSTM, x: torch.Tensor, suffix: str) -> torch.Tensor:
    weights = [getattr(lstm, f"{name}{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    state = x.new_zeros(1, len(x), lstm.hidden_size)
    return torch.lstm(x.contiguous(), (state, state), weights, True, 1, 0.0, False, False, True)[0]
