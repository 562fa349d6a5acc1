"""Attention over layers: K vectors a frame become one."""

from __future__ import annotations

import torch
from torch import nn


class LayerAttention(nn.Module):
    """Weighted sum over K layers, with weights softmax_k(w2 . ReLU(W1 e_k + b1)).

    Args:
        dim: D, channels in and out.
        hidden_dim: rows of W1.
    """

    def __init__(self, *, dim: int, hidden_dim: int):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, N, K, D] -> [B, N, D]."""
        weights = self.score(x).softmax(dim=2)  # [B, N, K, 1]
        return (weights * x).sum(dim=2)
