"""How evenly the entries of codebooks are used."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


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


class CodeUse(nn.Module):
    """Usage and perplexity of codebooks over the frames of the last steps, as metrics of a training.

    Args:
        names: of the K codebooks.
        vocab_size: V.
        decay: of the frames, in each step.
    """

    def __init__(self, names: Sequence[str], vocab_size: int, *, decay: float = 0.99):
        super().__init__()
        self.names = list(names)
        self.decay = decay
        self.register_buffer("frames", torch.zeros(len(self.names), vocab_size), persistent=False)

    def add(self, counts: torch.Tensor) -> None:
        """Take in the frames [K, V] of a step, of all processes."""
        self.frames.mul_(self.decay).add_(counts)

    def metrics(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """``usage`` in % and ``perplexity``, the means and each codebook's, with a count: 0 before the first step."""
        known = (self.frames.sum() > 0).float()
        found = {}
        for name, values in (("usage", usage(self.frames)), ("perplexity", perplexity(self.frames))):
            found |= {name: values.mean(), **{f"{name}_{k}": x for k, x in zip(self.names, values, strict=True)}}
        return {name: (value * known, known) for name, value in found.items()}
