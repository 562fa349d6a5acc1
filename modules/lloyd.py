"""k-means of vectors that are all in memory: Lloyd's iterations from k-means++ seeds."""

from __future__ import annotations

import torch

from modules.kmeans import full_precision, nearest
from modules.seeding import plus_plus


@torch.no_grad()
def k_means(
    vectors: torch.Tensor, count: int, *, iterations: int = 10, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres of vectors, and how many vectors each of them has.

    The seeds differ from each other as far as the vectors do; where there are fewer vectors, or fewer that differ, the
    centres left over repeat some of them and have no vector. An iteration that leaves a centre without one leaves it
    where it is.

    Args:
        vectors: [n, D] float32, n above 0.
        count: centres to find.
        iterations: of Lloyd's algorithm.
        generator: on the CPU, of all draws; None: torch's own.

    Returns:
        [count, D] and [count] float32.
    """
    centres = _seeds(vectors, count, generator)
    with full_precision(vectors.device):
        for _ in range(iterations):
            counts, sums = _assign(vectors, centres)
            centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), centres)
        counts, _ = _assign(vectors, centres)
    return centres, counts


def _seeds(vectors: torch.Tensor, count: int, generator: torch.Generator | None) -> torch.Tensor:
    distinct = torch.unique(vectors, dim=0)
    try:
        return plus_plus(distinct, min(count, len(distinct)), generator=generator)[
            torch.arange(count, device=vectors.device) % len(distinct)
        ]
    except ValueError:  # of these, some differ by rounding alone
        return distinct[torch.randperm(len(distinct), generator=generator).to(vectors.device)][
            torch.arange(count, device=vectors.device) % len(distinct)
        ]


def _assign(vectors: torch.Tensor, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many vectors are nearest to each centre, and their sum."""
    tokens = nearest(vectors, centres)
    counts = torch.bincount(tokens, minlength=len(centres)).float()
    order = tokens.argsort(stable=True)  # sums of sorted runs, since sums by index have no fixed order on a GPU
    sums = torch.segment_reduce(vectors[order], "sum", lengths=counts.long(), axis=0, unsafe=True)
    return counts, sums
