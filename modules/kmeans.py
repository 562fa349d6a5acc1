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
        with full_precision(self.centroids.device):
            tokens = [
                nearest(x, *codebook, chunk=self.chunk)
                for x, codebook in zip(features, zip(self.centroids, self.squared_norms, strict=True), strict=True)
            ]
        return torch.stack(tokens, dim=-1)


def nearest(
    x: torch.Tensor, centroids: torch.Tensor, squared_norms: torch.Tensor | None = None, *, chunk: int = 8192
) -> torch.Tensor:
    """The nearest centroid of each frame, the first of those that are equally near; in float32.

    Args:
        x: [..., D].
        centroids: [V, D].
        squared_norms: [V], of the centroids; None: computed here.
        chunk: frames that are compared at a time.

    Returns:
        [...] int64 in [0, V).
    """
    if x.shape[-1] != centroids.shape[1]:
        raise ValueError(f"the centroids have {centroids.shape[1]} dimensions, the features {x.shape[-1]}")
    if squared_norms is None:
        squared_norms = centroids.square().sum(dim=-1)
    flat = x.float().reshape(-1, centroids.shape[1])
    found = torch.empty(len(flat), dtype=torch.int64, device=flat.device)
    for start in range(0, len(flat), chunk):
        part = flat[start : start + chunk]
        found[start : start + chunk] = torch.addmm(squared_norms, part, centroids.T, alpha=-2).argmin(dim=-1)
    return found.view(x.shape[:-1])


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products have all bits of float32, whatever the rest of the program allows: no autocast, and no TF32 on CUDA."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        matmul.fp32_precision = before
