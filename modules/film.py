"""Feature-wise linear modulation: one sequence scales and shifts another."""

from __future__ import annotations

import torch
from torch import nn


class FiLM(nn.Module):
    """x * scale(c) + shift(c), frame by frame (Perez et al., arXiv 1709.07871; the scale has no ``1 +``)."""

    def __init__(self, *, dim: int):
        super().__init__()
        self.scale = nn.Linear(dim, dim)
        self.shift = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """x [B, N, D], condition [B, N, D] -> [B, N, D]."""
        return x * self.scale(condition) + self.shift(condition)
