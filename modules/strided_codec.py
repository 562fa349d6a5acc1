"""Strided convolutions that shorten a signal and lengthen it again, as in Jukebox (arXiv 2005.00341)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


class StridedEncoder(nn.Module):
    """[B, C, T] -> [B, D, T / product of the strides], rounded down.

    For each stride a convolution and ``depth`` residual units, the j-th dilated by ``growth ** j``; at the end a
    convolution to D. No normalisation, and no activation at either end.

    Args:
        channels: C.
        dim: D.
        width: channels in between.
        strides: of the convolutions.
        depth, growth: of the residual units.
    """

    def __init__(self, *, channels: int = 1, dim: int, width: int, strides: Sequence[int], depth: int, growth: int):
        super().__init__()
        layers: list[nn.Module] = []
        for stride in strides:
            kernel, padding = _kernel_and_padding(stride)
            down = nn.Conv1d(channels, width, kernel, stride, padding)
            layers.append(nn.Sequential(down, _Residuals(width, depth, growth)))
            channels = width
        self.model = nn.Sequential(*layers, nn.Conv1d(width, dim, 3, padding=1))
        self.stride = math.prod(strides)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class StridedDecoder(nn.Module):
    """[B, D, L] -> [B, C, L * product of the strides]: transposed convolutions with the strides in the same order.

    Args:
        as for ``StridedEncoder``; ``channels`` is what comes out.
    """

    def __init__(self, *, channels: int = 1, dim: int, width: int, strides: Sequence[int], depth: int, growth: int):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(dim, width, 3, padding=1)]
        for number, stride in enumerate(strides, 1):
            kernel, padding = _kernel_and_padding(stride)
            wide = dim if number == len(strides) else width
            up = nn.ConvTranspose1d(width, wide, kernel, stride, padding)
            layers.append(nn.Sequential(_Residuals(width, depth, growth), up))
        self.model = nn.Sequential(*layers)
        self.out = nn.Conv1d(dim, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.model(x))


class _Residuals(nn.Module):
    def __init__(self, width: int, depth: int, growth: int):
        super().__init__()
        self.model = nn.Sequential(*(_Residual(width, growth**number) for number in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.model = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation),
            nn.ReLU(),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.model(x)


def _kernel_and_padding(stride: int) -> tuple[int, int]:
    return (2 * stride + 1, stride // 2 + 1) if stride % 2 else (2 * stride, stride // 2)
