"""One table for the tokens of K codebooks."""

from __future__ import annotations

import torch
from torch import nn


class TokenEmbedding(nn.Module):
    """Embeds K codebooks of V tokens each: row ``token + V * codebook`` of one table.

    Args:
        num_codebooks: K.
        vocab_size: V.
        dim: D.
    """

    def __init__(self, *, num_codebooks: int, vocab_size: int, dim: int):
        super().__init__()
        self.table = nn.Embedding(num_codebooks * vocab_size, dim)
        self.register_buffer("offsets", vocab_size * torch.arange(num_codebooks), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, N, K] int64 -> [B, N, K, D]. The caller's tokens are not written to."""
        return self.table(tokens + self.offsets)
