"""The periodic activation of Ziyin et al. (arXiv 2006.08195)."""

from __future__ import annotations

import torch
from torch import nn


class Snake(nn.Module):
    """x + sin(a x)^2 / (a + 1e-9), with one learned a for each channel, which begins at 1: [B, C, L] -> [B, C, L]."""

    def __init__(self, *, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return snake(x, self.alpha)


def snake(x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    return x + (alpha * x).sin().square() / (alpha + 1e-9)
