"""How evenly the entries of codebooks are used."""

from __future__ import annotations

import torch


def histogram(tokens: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Frames of each centre: tokens [n, K] -> [K, V] float32."""
    index = tokens.T
    zeros = torch.zeros(len(index), vocab_size, device=tokens.device)
    return zeros.scatter_add_(1, index, torch.ones_like(index, dtype=zeros.dtype))


def usage(counts: torch.Tensor) -> torch.Tensor:
    """Centres with more than a hundredth of the frames of an average one, in %: [K, V] counts -> [K]."""
    return 100 * (counts > 0.01 * counts.mean(-1, keepdim=True)).float().mean(-1)


def perplexity(counts: torch.Tensor) -> torch.Tensor:
    """The number of equally frequent centres that would have the same entropy: [K, V] counts -> [K]; 1 if all are 0."""
    shares = counts / counts.sum(-1, keepdim=True).clamp(min=torch.finfo(counts.dtype).tiny)
    return torch.special.entr(shares).sum(-1).exp()
