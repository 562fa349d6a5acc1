"""Losses and error counts over tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def token_cross_entropy(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over all B * N * K positions, in float32.

    Args:
        logits: [B, N, K, V].
        tokens: [B, N, K] int64 in [0, V).

    Returns:
        A scalar.
    """
    return F.cross_entropy(logits.float().flatten(0, -2), tokens.flatten())


def wrong_tokens(predicted: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Number of wrong positions of each codebook: [B, N, K], [B, N, K] -> [K] float64."""
    return (predicted != tokens).double().sum(dim=(0, 1))
