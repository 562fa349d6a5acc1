"""Cross-attention from one sequence to another, layer by layer, with normalisation after each sum."""

from __future__ import annotations

import torch
from torch import nn


class CrossAttentionLayer(nn.Module):
    """x = LN(x + MHA(x, memory, memory)); x = LN(x + FFN(x)), with a ReLU inside the FFN."""

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int, dropout: float = 0.0, eps: float = 1e-6):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got {num_heads} and {dim}")
        self.attention = nn.MultiheadAttention(dim, num_heads, dropout=dropout)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_dim), nn.ReLU(), nn.Linear(ffn_dim, dim))
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """x [N, B, D], memory [M, B, D] -> [N, B, D]."""
        attended, _ = self.attention(x, memory, memory, need_weights=False)
        x = self.norm1(x + self.dropout(attended))
        return self.norm2(x + self.dropout(self.ffn(x)))


class CrossAttention(nn.Module):
    """A stack of cross-attention layers over the same memory, and a final LayerNorm.

    Args:
        num_layers, dim, num_heads, ffn_dim: sizes.
        dropout: after the attention and after the FFN.
        eps: of every LayerNorm.
    """

    def __init__(
        self, *, num_layers: int, dim: int, num_heads: int, ffn_dim: int, dropout: float = 0.0, eps: float = 1e-6
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            CrossAttentionLayer(dim=dim, num_heads=num_heads, ffn_dim=ffn_dim, dropout=dropout, eps=eps)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """x [B, N, D] asks, memory [B, M, D] answers -> [B, N, D]."""
        # Time before batch, as torch's attention computes, and in memory too: see modules.memory_order.
        x, memory = (y.transpose(0, 1).contiguous() for y in (x, memory))
        for layer in self.layers:
            x = layer(x, memory)
        return self.norm(x).transpose(0, 1)
