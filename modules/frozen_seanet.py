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


# How many values a layer takes at once on a CPU, and rows at least. What a few seconds of samples are with all their
# channels would go out to memory and come back for each operation. From 2**19 to 2**22 there is no telling which is
# fastest, 2**18 and all at once are slower (by 15 and 40 %, at released sizes on two cores with 2 MB each).
TILE_VALUES, LEAST_ROWS = 2**20, 512


class FrozenLayers:
    """Layers of ``modules.seanet``, but LSTMs, for use: weight norm is computed once, and convolutions are products.

    They give what the layers themselves give, to the rounding of float32: [B, L, C] -> [B, L', C'].

    Args:
        layers: in the order in which they follow each other.
    """

    def __init__(self, layers: Sequence[nn.Module]):
        self._layers: list[Layer] = []
        activation: Layer | None = None  # what goes before a layer is computed with it
        for layer in layers:
            if type(layer) in _ACTIVATIONS:
                self._layers += [activation] if activation else []
                activation = _ACTIVATIONS[type(layer)](layer)
                continue
            if isinstance(layer, ResidualBlock):
                self._layers += [*([activation] if activation else []), _Block(layer)]
            else:
                self._layers.append(_KINDS[type(layer)](layer, activation))
            activation = None
        self._layers += [activation] if activation else []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self._layers:
            x = layer(x)
        return x


class _Convolution:
    def __init__(self, module: PaddedConv1d, activation: Layer | None):
        self._module = module
        self._activation = activation or (lambda x: x)
        self._product = FrozenLinear(module.conv)
        (self._size,), (self._dilation,) = module.conv.kernel_size, module.conv.dilation
        self.width = self._size * module.conv.in_channels
        self._sums_last = self._size * module.conv.out_channels < module.conv.in_channels

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return in_tiles(self.part, x, -(-x.shape[1] // self._module.stride), self.width)

    def part(self, x: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Outputs ``start`` to ``stop`` of [B, L, C]."""
        stride, length = self._module.stride, x.shape[1]
        if self._size == stride == 1:
            return self._product(self._activation(x[:, start:stop]))
        begin = start * stride - self._module.left
        end = (stop - 1) * stride - self._module.left + (self._size - 1) * self._dilation + 1
        zeros = self._module.padding(length)[2]
        first, last = max(begin, 0), min(end, length)
        x = mirror_ends(self._activation(x[:, first:last]), first - begin, end - last, zeros)
        return (
            self._products_first(x, stop - start) if self._sums_last else self._product(self._windows(x, stop - start))
        )

    def _windows(self, x: torch.Tensor, count: int) -> torch.Tensor:
        """[B, M, C] -> what each of so many outputs hears, [B, count, size * C]."""
        batch, _, channels = x.shape
        steps = (x.stride(0), self._module.stride * channels, self._dilation * channels, 1)
        x = x.as_strided((batch, count, self._size, channels), steps)
        return x.reshape(batch, count, self._size * channels)

    def _products_first(self, x: torch.Tensor, count: int) -> torch.Tensor:
        """To few outputs it is less to multiply each sample once, and then to add up what belongs together."""
        conv = self._module.conv
        outputs = conv.out_channels
        y = F.linear(x, conv.weight.detach().permute(2, 0, 1).flatten(0, 1))  # [B, M, size * O]
        row = self._size * outputs
        steps = (y.stride(0), self._module.stride * row, self._dilation * row + outputs, 1)
        y = y.as_strided((len(x), count, self._size, outputs), steps).sum(dim=2)
        return y if conv.bias is None else y + conv.bias.detach()


class _UpConvolution:
    """Each sample hears two frames: those before and after the place where their windows meet."""

    def __init__(self, module: UpConv1d, activation: Layer | None):
        self._module = module
        self._activation = activation or (lambda x: x)
        self._product = FrozenLinear(module.convtr)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        batch, frames, channels = x.shape
        y = in_tiles(self._part, x, frames + 1, 2 * channels)  # [B, frames + 1, stride * outputs]
        y = y.view(batch, (frames + 1) * self._module.stride, -1)
        return y[:, self._module.cut : self._module.cut + frames * self._module.stride]

    def _part(self, x: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Of the pairs ``start`` to ``stop``; pair n is of frames n - 1 and n, and of silence at the ends."""
        batch, frames, channels = x.shape
        x = self._activation(x[:, max(start - 1, 0) : stop])
        x = F.pad(x, (0, 0, int(start == 0), int(stop > frames))).contiguous()
        pairs = x.as_strided((batch, stop - start, 2 * channels), (x.stride(0), channels, 1))
        return self._product(pairs.contiguous())


class _Block:
    def __init__(self, module: ResidualBlock):
        activation, first, activation_within, second = module.block
        self._first = _Convolution(first, _ACTIVATIONS[type(activation)](activation))
        self._second = _Convolution(second, _ACTIVATIONS[type(activation_within)](activation_within))
        self._shortcut = _Convolution(module.shortcut, None)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return in_tiles(self._part, x, x.shape[1], self._first.width)

    def _part(self, x: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        hidden = self._first.part(x, start, stop)
        return self._shortcut.part(x, start, stop) + self._second.part(hidden, 0, stop - start)


_ACTIVATIONS: dict[type[nn.Module], Callable[[nn.Module], Layer]] = {
    nn.ELU: lambda elu: functools.partial(F.elu, alpha=elu.alpha),
    Snake: lambda module: lambda x: snake(x, module.alpha.transpose(1, 2)),
}
_KINDS: dict[type[nn.Module], Callable[[nn.Module, Layer | None], Layer]] = {
    PaddedConv1d: _Convolution,
    UpConv1d: _UpConvolution,
}


def in_tiles(
    part: Callable[[torch.Tensor, int, int], torch.Tensor], x: torch.Tensor, length: int, width: int
) -> torch.Tensor:
    """``part(x, 0, length)``, [B, length, O], on a CPU in several tiles along the length.

    Args:
        part: gives rows ``start`` to ``stop`` of the result.
        width: values of which a row is made.
    """
    most = max(LEAST_ROWS, TILE_VALUES // (width * len(x)))
    if x.device.type != "cpu" or length <= most:
        return part(x, 0, length)
    count = -(-length // most)
    result = None
    for tile in range(count):  # alike to a row: the last would else be too short for its end to be mirrored
        start, stop = length * tile // count, length * (tile + 1) // count
        y = part(x, start, stop)
        if result is None:
            result = y.new_empty(len(x), length, y.shape[-1])
        result[:, start:stop] = y
    return result


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
