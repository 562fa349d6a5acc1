"""SEANet (arXiv 2009.02095): residual convolutions between strided ones, and an LSTM where the frames are slowest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from modules.snake import Snake

ACTIVATIONS = ("ELU", "Snake")


class PaddedConv1d(nn.Module):
    """A convolution with weight norm that gives ceil(L / stride) frames of L, whose ends are mirrored.

    Of the padding P = (kernel - 1) * dilation - (stride - 1), the smaller half is at the right, which gets as much more
    as the last window needs to be full.

    ``forward``: [B, inputs, L] -> [B, outputs, ceil(L / stride)].
    """

    def __init__(self, *, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.conv = weight_norm(nn.Conv1d(inputs, outputs, kernel, stride=stride, dilation=dilation))
        padding = (kernel - 1) * dilation - (stride - 1)
        self.left, self.right = padding - padding // 2, padding // 2
        self.stride = stride

    def padding(self, length: int) -> tuple[int, int, int]:
        """What is mirrored at the left and the right of ``length`` samples, and the zeros that are needed for it.

        A signal that is too short to be mirrored gets so many zeros at its right end, and when it has been mirrored,
        the same number is cut off there.
        """
        left, right = self.left, self.right + -length % self.stride
        return left, right, max(max(left, right) + 1 - length, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right, zeros = self.padding(x.shape[-1])
        if zeros:
            x = F.pad(x, (0, zeros))
        x = F.pad(x, (left, right), mode="reflect")
        return self.conv(x[..., : x.shape[-1] - zeros])


class UpConv1d(nn.Module):
    """A transposed convolution with weight norm, of twice its stride: [B, inputs, L] -> [B, outputs, stride * L].

    Of the ``stride`` samples too many, half are cut off on either side; where it is odd, one more on the left.
    """

    def __init__(self, *, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.convtr = weight_norm(nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride=stride), dim=0)
        self.stride = stride

    @property
    def cut(self) -> int:
        """Samples that are cut off on the left."""
        return self.stride - self.stride // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convtr(x)[..., self.cut : self.cut + self.stride * x.shape[-1]]


class ResidualBlock(nn.Module):
    """A 1x1 convolution of the input, plus two convolutions by way of half its channels: [B, C, L] -> [B, C, L]."""

    def __init__(self, *, channels: int, kernel: int, dilation: int, activation: str):
        super().__init__()
        hidden = channels // 2
        self.block = nn.Sequential(
            make_activation(activation, channels),
            PaddedConv1d(inputs=channels, outputs=hidden, kernel=kernel, dilation=dilation),
            make_activation(activation, hidden),
            PaddedConv1d(inputs=hidden, outputs=channels, kernel=1),
        )
        self.shortcut = PaddedConv1d(inputs=channels, outputs=channels, kernel=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.block(x)


class ResidualLSTM(nn.Module):
    """An LSTM over all frames, and its input added to its output; twice side by side if it runs in both directions.

    ``forward``: [B, C, N] -> [B, C, N], or [B, 2 C, N] in both directions.
    """

    def __init__(self, *, channels: int, layers: int, bidirectional: bool = False):
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(1, 2).contiguous()
        y, _ = self.lstm(x)
        return (y + (torch.cat([x, x], dim=-1) if self.lstm.bidirectional else x)).transpose(1, 2)


class SEANetEncoder(nn.Module):
    """Waveform to latents: [B, 1, T] -> [B, dim, ceil(T / product of the strides)].

    Args:
        filters: channels at the sample rate; they double with each stride.
        strides: from the samples to the frames.
        dim: channels of the latents.
        residual_layers: residual blocks before each stride, the j-th with a dilation of ``dilation_base ** j``.
        residual_kernel: of their first convolutions.
        lstm_layers, bidirectional: of the LSTM.
        activation: one of ``ACTIVATIONS``.
    """

    def __init__(
        self,
        *,
        filters: int,
        strides: Sequence[int],
        dim: int,
        residual_layers: int,
        residual_kernel: int,
        dilation_base: int,
        lstm_layers: int,
        bidirectional: bool,
        activation: str,
    ):
        super().__init__()
        channels = filters
        layers: list[nn.Module] = [PaddedConv1d(inputs=1, outputs=filters, kernel=7)]
        for stride in strides:
            layers += _residual_blocks(channels, residual_layers, residual_kernel, dilation_base, activation)
            layers += [
                make_activation(activation, channels),
                PaddedConv1d(inputs=channels, outputs=2 * channels, kernel=2 * stride, stride=stride),
            ]
            channels *= 2
        layers.append(ResidualLSTM(channels=channels, layers=lstm_layers, bidirectional=bidirectional))
        channels *= 2 if bidirectional else 1
        layers += [make_activation(activation, channels), PaddedConv1d(inputs=channels, outputs=dim, kernel=7)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class SEANetDecoder(nn.Module):
    """Latents to waveform: [B, dim, N] -> [B, 1, N * product of the strides]; nothing is scaled or clipped.

    Args:
        strides: from the frames to the samples; the others are those of ``SEANetEncoder``. The LSTM runs forwards only.
    """

    def __init__(
        self,
        *,
        filters: int,
        strides: Sequence[int],
        dim: int,
        residual_layers: int,
        residual_kernel: int,
        dilation_base: int,
        lstm_layers: int,
        activation: str,
    ):
        super().__init__()
        channels = filters * 2 ** len(strides)
        layers: list[nn.Module] = [
            PaddedConv1d(inputs=dim, outputs=channels, kernel=7),
            ResidualLSTM(channels=channels, layers=lstm_layers),
        ]
        for stride in strides:
            layers += [
                make_activation(activation, channels),
                UpConv1d(inputs=channels, outputs=channels // 2, stride=stride),
            ]
            channels //= 2
            layers += _residual_blocks(channels, residual_layers, residual_kernel, dilation_base, activation)
        layers += [make_activation(activation, channels), PaddedConv1d(inputs=channels, outputs=1, kernel=7)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def make_activation(name: str, channels: int) -> nn.Module:
    """``ELU``, or ``Snake`` with a parameter a channel.

    Raises:
        ValueError: there is no such activation.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return nn.ELU() if name == "ELU" else Snake(channels=channels)


def _residual_blocks(channels: int, count: int, kernel: int, base: int, activation: str) -> list[nn.Module]:
    return [
        ResidualBlock(channels=channels, kernel=kernel, dilation=base**j, activation=activation) for j in range(count)
    ]
