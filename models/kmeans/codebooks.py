"""K-means as gradient descent: centres whose gradient is that of the squared distance to their frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from modules.kmeans import NearestCentroid


class Codebooks(nn.Module):
    """The codebooks of K layers while they are fitted: centres, and how many frames each of them has had.

    Mini-batch k-means (Sculley, WWW 2010) is stochastic gradient descent on half the squared distance of frames to
    their nearest centres, with a rate for each centre: 1 / (frames that it has had). So Bottou and Bengio ("Convergence
    properties of the k-means algorithms", NIPS 1994). Here the frames that a centre gets are a gradient too, that of
    its count: whatever averages gradients, over processes or micro-batches, scales both alike, and their ratio stays.

    Args:
        num_codebooks: K.
        vocab_size: V, centres of a codebook.
        dim: D, channels of a frame.
        chunk: frames that are compared at a time, which bounds the memory to ``chunk * V`` distances.
    """

    def __init__(self, *, num_codebooks: int, vocab_size: int, dim: int, chunk: int = 8192):
        super().__init__()
        self.chunk = chunk
        self.centres = nn.Parameter(torch.zeros(num_codebooks, vocab_size, dim))
        self.counts = nn.Parameter(torch.zeros(num_codebooks, vocab_size))  # a frame of a batch of B rows counts 1 / B
        self.register_buffer("idle", torch.zeros(num_codebooks, vocab_size, dtype=torch.int64))  # steps without a frame
        self.register_buffer("reseeded", torch.tensor(0))  # centres moved to another place, in all
        # Frames that stand for the data, to put centres on: [K, R, D].
        self.register_buffer("reservoir", torch.zeros(num_codebooks, 0, dim), persistent=False)

    @torch.no_grad()
    def assign(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """The nearest centre of each frame, as a tokenizer finds it: K of [B, N, D] -> tokens [B, N, K]."""
        return NearestCentroid(self.centres.unbind(), chunk=self.chunk)(features)

    def forward(self, features: Sequence[torch.Tensor], tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Half the squared distance of frames to the centres of their tokens, as the sum of a row, mean over rows.

        The gradient of a centre is ``n * centre - (sum of its n frames)``, that of its count is ``n``, both over B.

        Args:
            features: K tensors [B, N, D].
            tokens: [B, N, K], as ``assign`` gives them.
            mask: [B, N] bool, the frames that count.

        Returns:
            [K] float32.
        """
        sums = []
        for x, centres, counts, codes in zip(
            features, self.centres.unbind(), self.counts.unbind(), tokens.unbind(-1), strict=True
        ):
            codes = codes[mask]
            distances = (F.embedding(codes, centres) - x[mask].float()).square().sum() / 2
            frames = F.embedding(codes, counts[:, None])
            sums.append(distances + (frames - frames.detach()).sum())  # which adds 0, with a gradient of 1 a frame
        return torch.stack(sums) / len(mask)
