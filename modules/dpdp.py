"""Segments of one unit each: frames quantised by a search in which every change of the unit has a price (DPDP).

Kamper and van Niekerk (arXiv 2012.07551); Visser and Kamper (arXiv 2505.23494). Of frames x_1..x_N and centres c_k, the
units u_1..u_N are those that minimise

    E(u) = sum_t |x_t - c_(u_t)|^2 - lmbda * #{t > 1 : u_t = u_(t-1)}
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from modules.kmeans import full_precision

BLOCK = 2**19  # distances that are computed at a time: 2 MB, which stay in a core's cache


@torch.no_grad()
def dpdp(
    features: Tensor,
    codebook: Tensor,
    *,
    lmbda: float,
    num_neighbors: float | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The units of a batch, and what they cost; a padded row has the units that it has alone.

    Args:
        features: [B, N, D].
        codebook: [K, D].
        lmbda: the price of one more segment, 0 or above, in squared distances; 0: every frame has its nearest centre.
        num_neighbors: see ``count_neighbors``.
        lengths: [B] frames of each row, from 0; what lies beyond is ignored. None: all are whole.

    Returns:
        units [B, N] int64 in [0, K), 0 beyond a row's length; of several optima that which stays, else the one of the
        lowest index. costs [B] float64, E of the units.

    Raises:
        ValueError: other shapes or values; features or centres that are not finite.
    """
    if features.ndim != 3 or not features.is_floating_point():
        raise ValueError(f"features must be floats [B, N, D], got {features.dtype} {list(features.shape)}")
    size, frames, _ = features.shape
    own = [frames] * size if lengths is None else [int(length) for length in lengths.tolist()]
    if len(own) != size or not all(0 <= length <= frames for length in own):
        raise ValueError(f"lengths must be {size} numbers of frames from 0 to {frames}, got {own}")
    search = UnitSearch(codebook, lmbda=lmbda, num_neighbors=num_neighbors)
    units = torch.zeros(size, frames, dtype=torch.int64, device=features.device)
    costs = torch.zeros(size, dtype=torch.float64, device=features.device)
    # Rows of one length go together, so that no row needs to be told from its padding.
    for length in sorted(set(own) - {0}):
        rows = [row for row, frames_of_row in enumerate(own) if frames_of_row == length]
        part = features[:, :length] if len(rows) == size else features[rows, :length]
        search.add(part)
        units[rows, :length] = found = search.finish().to(units.device)
        costs[rows] = cost(part, codebook, found, lmbda=lmbda)
    return units, costs


@torch.no_grad()
def cost(features: Tensor, codebook: Tensor, units: Tensor, *, lmbda: float) -> Tensor:
    """E of units [B, N]: [B] float64. Of differences, since in |x|^2 - 2 <x, c> + |c|^2 large norms hide small ones."""
    total = torch.zeros(len(features), dtype=torch.float64, device=features.device)
    book = codebook.to(features.device)
    for part, chosen in zip(features.split(1024, dim=1), units.split(1024, dim=1), strict=True):
        total += (part - book[chosen]).float().square().sum(2).double().sum(1)
    return total - lmbda * (units[:, 1:] == units[:, :-1]).sum(1)


def count_neighbors(num_neighbors: float | None, num_clusters: int) -> int:
    """How many of a frame's nearest centres are allowed.

    Args:
        num_neighbors: a fraction in (0, 1) of the clusters, rounded down, but at least one; an integer, which many; or
            None, all.
        num_clusters: K.

    Raises:
        ValueError: it is 0 or below, or a number above 1 that is not whole.
    """
    if num_neighbors is None:
        return num_clusters
    is_number = isinstance(num_neighbors, int | float) and not isinstance(num_neighbors, bool)
    if not is_number or not num_neighbors > 0 or (num_neighbors > 1 and num_neighbors != int(num_neighbors)):
        raise ValueError(
            f"num_neighbors must be a fraction in (0, 1), a whole number above 0, or null for all, got {num_neighbors}"
        )
    if num_neighbors < 1:
        return max(1, int(num_neighbors * num_clusters))
    return min(int(num_neighbors), num_clusters)


def check_lmbda(lmbda: float) -> float:
    """Raise a ValueError unless it is a finite number, 0 or above."""
    if isinstance(lmbda, bool) or not isinstance(lmbda, int | float) or not 0 <= lmbda < math.inf:
        raise ValueError(f"lmbda must be a number, 0 or above, got {lmbda}")
    return float(lmbda)


class UnitSearch:
    """The search over frames that come in blocks: give them to ``add``, in order, then call ``finish``.

    Of the frames before, only back-pointers are kept: a bit for each frame and centre, and an index for each frame. So
    an hour of speech takes 12 MB at K = 500, and its features need never be there at once.

    With V_t(k) the least cost of frames 1 to t that ends in k, and m_t = min_k V_t(k),

        V_t(k) = d(t, k) + min(V_(t-1)(k) - lmbda, m_(t-1))

    What is kept is V_t - m_t in float64, which stays small for any number of frames; and the minimum is taken as
    min(V - m, lmbda), the same but for a constant, so that a large ``lmbda`` hides no small difference.

    Distances are computed in float32, where the frames are. The recursion is numpy's, on the CPU: N steps of a few
    operations on [B, K], each of which takes a microsecond.

    Args:
        codebook: [K, D].
        lmbda, num_neighbors: see ``dpdp``.

    Raises:
        ValueError: a value that cannot be.
    """

    def __init__(self, codebook: Tensor, *, lmbda: float, num_neighbors: float | None = None):
        if codebook.ndim != 2 or not len(codebook) or not codebook.is_floating_point():
            raise ValueError(f"the codebook must be floats [K, D], got {codebook.dtype} {list(codebook.shape)}")
        if not codebook.isfinite().all():
            raise ValueError("the codebook has values that are not finite")
        self.lmbda = check_lmbda(lmbda)
        self.neighbors = count_neighbors(num_neighbors, len(codebook))
        self._codebook = codebook.detach().float()
        self._norms = self._codebook.square().sum(1)
        self._clear()

    def _clear(self) -> None:
        self._costs: np.ndarray | None = None  # [B, K], V_t - m_t of the last frame
        self._stays: list[np.ndarray] = []  # [n, B, ceil(K / 8)] uint8: does the way to (t, k) come from (t - 1, k)?
        self._best: list[np.ndarray] = []  # [n, B], the k of m_t

    @torch.no_grad()
    def add(self, features: Tensor) -> None:
        """The next frames, [B, n, D].

        Raises:
            ValueError: another shape than before, or features that are not finite.
        """
        clusters, dim = self._codebook.shape
        if features.ndim != 3 or features.shape[2] != dim:
            raise ValueError(f"features must be [B, N, {dim}] as the codebook [K, {dim}], got {list(features.shape)}")
        if self._costs is None:
            self._costs = np.zeros((len(features), clusters))
        if len(features) != len(self._costs):
            raise ValueError(f"features of {len(features)} rows follow those of {len(self._costs)}")
        if not len(features):
            return
        for block in features.split(max(1, BLOCK // (len(features) * clusters)), dim=1):
            self._follow(self._distances(block))

    def _distances(self, features: Tensor) -> np.ndarray:
        """[B, n, D] -> [n, B, K] squared distances less |x|^2, which no choice depends on; not allowed: infinite."""
        book, norms = (x.to(features.device) for x in (self._codebook, self._norms))
        with full_precision(features.device):
            flat = features.detach().float().transpose(0, 1).reshape(-1, features.shape[2])
            distances = torch.addmm(norms, flat, book.T, alpha=-2).cpu().numpy()
        if self.neighbors < len(book):
            keep_nearest(distances, self.neighbors)
        return distances.reshape(features.shape[1], len(features), len(book))

    def _follow(self, distances: np.ndarray) -> None:
        costs, lmbda = self._costs, self.lmbda
        stays = np.empty(distances.shape, bool)
        best = np.empty(distances.shape[:2], np.int64)
        rows = np.arange(len(costs))
        with np.errstate(invalid="ignore"):
            for t, distance in enumerate(distances):
                np.less_equal(costs, lmbda, out=stays[t])
                np.minimum(costs, lmbda, out=costs)
                costs += distance
                least = costs[rows, costs.argmin(1, out=best[t])]
                costs -= least[:, None]
        if not np.isfinite(least).all():  # one NaN or infinite frame makes all that follow so
            self._clear()
            raise ValueError("features are not finite, or so large that their squares are not")
        self._stays.append(np.packbits(stays, axis=2))
        self._best.append(best.astype(np.int32))

    def finish(self) -> Tensor:
        """The units of all frames, [B, N] int64 on the CPU; the search is then empty, for the next frames."""
        if not self._best:
            found = np.zeros((0 if self._costs is None else len(self._costs), 0), np.int64)
        else:
            best = np.concatenate(self._best)
            found = np.stack([self._trace(row, best[:, row].tolist()) for row in range(best.shape[1])])
        self._clear()
        return torch.from_numpy(found)

    def _trace(self, row: int, best: list[int]) -> np.ndarray:
        units = np.empty(len(best), np.int64)
        end, unit = len(best), best[-1]
        for stays in reversed(self._stays):
            first = end - len(stays)
            bits = stays[:, row]
            for t in range(end - 1, first - 1, -1):
                units[t] = unit
                if t and not bits[t - first, unit >> 3] & (128 >> (unit & 7)):
                    unit = best[t - 1]
            end = first
        return units


def keep_nearest(distances: np.ndarray, count: int) -> None:
    """Make all but the ``count`` least of each row infinite, in place; of equal ones, the first are kept."""
    limit = np.partition(distances, count - 1, axis=1)[:, count - 1 : count]
    kept = distances <= limit
    for row in np.flatnonzero(kept.sum(1) > count):
        kept[row] = False
        kept[row, np.argsort(distances[row], kind="stable")[:count]] = True
    np.copyto(distances, np.float32(np.inf), where=~kept)
