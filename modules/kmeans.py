"""Nearest centroid: continuous features to tokens, on the device where they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn


class NearestCentroid(nn.Module):
    """K-means codebooks, one a layer, as one matrix product each.

    The nearest centroid in Euclidean distance is argmin_v |c_v|^2 - 2 <x, c_v>, because |x|^2 is the same for all v.

    Args:
        centroids: K tensors [V, D], one a codebook.
        chunk: frames that are compared at a time, which bounds the memory to ``chunk * V`` distances.
    """

    def __init__(self, centroids: Sequence[torch.Tensor], *, chunk: int = 8192):
        super().__init__()
        shapes = {tuple(c.shape) for c in centroids}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise ValueError(f"codebooks must be [V, D] and of one shape, got {sorted(shapes)}")
        self.chunk = chunk
        centroids = torch.stack([c.detach().float() for c in centroids])
        self.register_buffer("centroids", centroids)  # [K, V, D]
        self.register_buffer("squared_norms", centroids.square().sum(dim=-1), persistent=False)  # [K, V]

    @property
    def num_codebooks(self) -> int:
        return self.centroids.shape[0]

    @property
    def vocab_size(self) -> int:
        return self.centroids.shape[1]

    @property
    def dim(self) -> int:
        return self.centroids.shape[2]

    @torch.no_grad()
    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Tokens of the features, always compared in float32, and never in TF32.

        Args:
            features: K tensors [B, N, D], in the order of the codebooks.

        Returns:
            [B, N, K] int64 in [0, V).
        """
        if len(features) != self.num_codebooks:
            raise ValueError(f"{self.num_codebooks} codebooks cannot quantise {len(features)} layers")
        with torch.autocast(self.centroids.device.type, enabled=False), _without_tf32():
            tokens = [self._nearest(x.float(), k) for k, x in enumerate(features)]
        return torch.stack(tokens, dim=-1)

    def _nearest(self, x: torch.Tensor, k: int) -> torch.Tensor:
        if x.shape[-1] != self.dim:
            raise ValueError(f"the centroids have {self.dim} dimensions, the features {x.shape[-1]}")
        flat = x.reshape(-1, self.dim)
        nearest = torch.empty(len(flat), dtype=torch.int64, device=flat.device)
        for start in range(0, len(flat), self.chunk):
            part = flat[start : start + self.chunk]
            distances = torch.addmm(self.squared_norms[k], part, self.centroids[k].T, alpha=-2)
            nearest[start : start + self.chunk] = distances.argmin(dim=-1)
        return nearest.view(x.shape[:-1])


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """CUDA's products have all bits of float32, whatever the rest of the program allows."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "ieee"
        yield
    finally:
        matmul.fp32_precision = before
