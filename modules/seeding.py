"""Where centres begin: on frames that lie far from each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from modules.kmeans import full_precision

# Frames are the same if their squared distance is below this part of their squared norms: the rounding of float32.
_SAME = 3e-6
# The largest distance in whole numbers, of which a sum is the same in whatever order a GPU adds them.
_LARGEST = 2**31


@torch.no_grad()
def sample_frames(parts: Iterable[Sequence[torch.Tensor]], size: int) -> torch.Tensor:
    """Frames of a stream, drawn with equal probability: those with the smallest of random keys.

    The keys come from torch's generator on the CPU, and no more than one part and the sample are in memory.

    Args:
        parts: of the stream; each has one [n, D] a layer, of the same n frames.
        size: how many frames to draw.

    Returns:
        [K, R, D] float32 on the device of the frames; R is ``size``, or fewer where the stream has fewer.

    Raises:
        ValueError: there is no part at all.
    """
    keys, kept = torch.empty(0, dtype=torch.float64), None
    for part in parts:
        keys, order = torch.cat([keys, torch.rand(len(part[0]), dtype=torch.float64)]).sort()
        keys, order = keys[:size], order[:size].to(part[0].device)
        both = part if kept is None else [torch.cat(pair) for pair in zip(kept, part, strict=True)]
        kept = [x.float()[order] for x in both]
    if kept is None:
        raise ValueError("there is no batch to draw frames from")
    return torch.stack(kept)


@torch.no_grad()
def plus_plus(
    frames: torch.Tensor,
    count: int,
    *,
    given: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """k-means++ (Arthur and Vassilvitskii, SODA 2007) in its greedy form, with as many candidates as scikit-learn.

    Each centre is a frame, drawn with a probability proportional to the squared distance to its nearest centre so far;
    of 2 + ln(centres) candidates the one that leaves the least sum of these distances.

    Args:
        frames: [R, D] float32.
        count: centres to find.
        given: [G, D], centres that there are already.
        generator: on the CPU, of all draws; None: torch's own.

    Returns:
        [count, D], all different.

    Raises:
        ValueError: there are not so many different frames.
    """
    if len(frames) < count:
        raise ValueError(f"{len(frames)} frames cannot be {count} centres")
    with full_precision(frames.device):
        return frames[_far_apart(frames, count, given, generator)]


def _far_apart(
    frames: torch.Tensor, count: int, given: torch.Tensor | None, generator: torch.Generator | None
) -> torch.Tensor:
    """The indices [count] of the frames that ``plus_plus`` chooses."""
    distances = _Distances(frames)
    nearest = torch.full((len(frames),), torch.inf, device=frames.device)
    chosen: list[torch.Tensor] = []
    if given is not None and len(given):
        for some in given.split(64):
            nearest = torch.minimum(nearest, distances(some).amin(0))
    else:
        chosen.append(torch.randint(len(frames), (1,), generator=generator).to(frames.device))
        nearest = distances(frames[chosen[0]])[0]
    candidates = 2 + int(math.log(count + (0 if given is None else len(given))))
    enough = torch.tensor(True, device=frames.device)
    while len(chosen) < count:
        largest = nearest.amax().clamp(min=torch.finfo(nearest.dtype).tiny)
        whole = (nearest / largest * _LARGEST).long().cumsum(0)
        enough = enough & (whole[-1] > 0)  # read in the end only, so that the host need not wait
        draws = torch.rand(candidates, generator=generator, dtype=torch.float64).to(frames.device)
        drawn = torch.searchsorted(whole, (draws * whole[-1]).long(), right=True).clamp(max=len(frames) - 1)
        left = torch.minimum(nearest, distances(frames[drawn]))  # [candidates, R]
        best = left.sum(-1).argmin(0, keepdim=True)
        chosen.append(drawn[best])
        nearest = left[best][0]
    if not enough:
        raise ValueError(f"of {len(frames)} frames fewer than {count} are different")
    return torch.cat(chosen)


class _Distances:
    """Squared distances to the frames [R, D]: of G points [G, D] as [G, R], and exactly 0 where both are the same."""

    def __init__(self, frames: torch.Tensor) -> None:
        self.mean = frames.mean(0)  # far from the origin, the differences of products would be all rounding
        self.frames = frames - self.mean
        self.norms = self.frames.square().sum(-1)

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        points = points - self.mean
        norms = points.square().sum(-1, keepdim=True) + self.norms
        squares = torch.addmm(norms, points, self.frames.T, alpha=-2)
        return squares.masked_fill(squares <= _SAME * norms, 0)
