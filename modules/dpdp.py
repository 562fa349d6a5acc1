"""Duration-penalised units: the path through a codebook that pays for every change (arXiv 2505.23494, 1904.02079).

Of units u_1 .. u_N the cost is sum_t |x_t - c_{u_t}|^2 - lmbda * (frames that have the unit of the frame before). The
least is found in O(N K) by V_t(k) = |x_t - c_k|^2 + min(V_{t-1}(k) - lmbda, min_j V_{t-1}(j)).

The steps over time are NumPy's, on all K at once, wherever the distances are computed: 6 microseconds a frame of 1,000
units (Intel Xeon, one core), less than half of what the distances take. With torch's operations they take 30; a kernel
by numba 3, but it is imported and compiled for 1.7 s in each process, and would be one dependency more.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from modules.kmeans import full_precision

_BLOCK = 2**19  # distances that are in memory at a time: 2 MB, which stay in a core's cache


def dpdp(
    features: Tensor,
    codebook: Tensor,
    *,
    lmbda: float,
    num_neighbors: float | int | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The cheapest units of each row. On ties a unit stays, else the lowest index is taken.

    Args:
        features: [B, N, D].
        codebook: [K, D], on the same device.
        lmbda: the price of one more segment, in squared distance; 0: the nearest centre of each frame.
        num_neighbors: how many of a frame's nearest centres it may have: a share of K in (0, 1), rounded down, or a
            count; None: all.
        lengths: [B] frames of each row, from 0; None: all are whole.

    Returns:
        Units [B, N] int64, 0 beyond a row's length; costs [B] float64. Both are on the CPU.

    Raises:
        ValueError: shapes or settings that cannot be, or features that are not finite.
    """
    if features.ndim != 3 or codebook.ndim != 2 or features.shape[2] != codebook.shape[1] or 0 in codebook.shape:
        raise ValueError(
            f"features must be [B, N, D] and the codebook [K, D], K and D above 0, got {list(features.shape)} and "
            f"{list(codebook.shape)}"
        )
    sizes = [features.shape[1]] * len(features) if lengths is None else [int(length) for length in lengths]
    if len(sizes) != len(features) or not all(0 <= size <= features.shape[1] for size in sizes):
        raise ValueError(
            f"lengths must be {len(features)} numbers of frames from 0 to {features.shape[1]}, got {sizes}"
        )
    units = torch.zeros(features.shape[:2], dtype=torch.int64)
    costs = torch.zeros(len(features), dtype=torch.float64)
    for row, size in enumerate(sizes):
        trellis = Trellis(codebook, lmbda=lmbda, num_neighbors=num_neighbors)
        trellis.add(features[row, :size])
        units[row, :size] = trellis.units()
        costs[row] = cost(features[row, :size], codebook, units[row, :size], lmbda=lmbda)
    return units, costs


def cost(features: Tensor, codebook: Tensor, units: Tensor, *, lmbda: float) -> float:
    """What units [N] of features [N, D] cost: of differences, as large norms hide small ones in |x|^2 - 2 <x, c>."""
    total = -lmbda * int((units[1:] == units[:-1]).sum())
    for part, chosen in zip(features.split(1024), units.to(codebook.device).split(1024), strict=True):
        total += float((part - codebook[chosen]).float().square().sum(1).double().sum())
    return total


def count_of_neighbors(num_neighbors: float | int | None, num_clusters: int) -> int:
    """How many of K centres a frame may have.

    Raises:
        ValueError: it is 0 or below, or no number.
    """
    if num_neighbors is None:
        return num_clusters
    if isinstance(num_neighbors, bool) or not isinstance(num_neighbors, int | float) or not num_neighbors > 0:
        raise ValueError(
            f"num_neighbors must be a share of the clusters in (0, 1), a count above 0, or null for all, got "
            f"{num_neighbors!r}"
        )
    if num_neighbors < 1:
        return max(1, int(num_neighbors * num_clusters))
    if num_neighbors != int(num_neighbors):
        raise ValueError(f"num_neighbors must be below 1 or a whole number, got {num_neighbors}")
    return min(int(num_neighbors), num_clusters)


class Trellis:
    """The search over one signal, whose features may come in parts.

    Per frame it keeps one bit a unit, whether that stays, and the unit that is cheapest: 12 MB an hour at K = 500. The
    costs V of the last frame are kept less the least of them, and min(V - lmbda, 0) is taken as min(V, lmbda), the same
    but for a constant: so a large ``lmbda`` hides no small difference.

    Args:
        codebook: [K, D].
        lmbda, num_neighbors: see ``dpdp``.

    Raises:
        ValueError: settings that cannot be.
    """

    def __init__(self, codebook: Tensor, *, lmbda: float, num_neighbors: float | int | None = None):
        if isinstance(lmbda, bool) or not isinstance(lmbda, int | float) or not 0 <= lmbda < float("inf"):
            raise ValueError(f"lmbda must be a number that is not below 0, got {lmbda!r}")
        self._lmbda = float(lmbda)
        self._count = count_of_neighbors(num_neighbors, len(codebook))
        self._codebook = codebook.float()
        self._squared_norms = self._codebook.square().sum(dim=1)
        self._stays: list[np.ndarray] = []  # of each block [n, K / 8], packed
        self._cheapest: list[np.ndarray] = []  # of each block [n]
        self._cost = np.zeros(len(codebook))  # [K], less the least

    @torch.no_grad()
    def add(self, features: Tensor) -> None:
        """More frames, [n, D].

        Raises:
            ValueError: they are not finite.
        """
        for part in features.split(max(1, _BLOCK // len(self._codebook))):
            with full_precision(part.device):
                near = torch.addmm(self._squared_norms, part.float(), self._codebook.T, alpha=-2)
            distances = near.cpu().numpy()  # less |x|^2, which is the same for all units of a frame
            if not np.isfinite(distances).all():
                raise ValueError("the features are not finite")
            if self._count < distances.shape[1]:
                _prune(distances, self._count)
            self._walk(distances)

    def _walk(self, distances: np.ndarray) -> None:
        costs, stays = self._cost, np.empty(distances.shape, dtype=bool)
        cheapest = np.empty(len(distances), dtype=np.int32)
        for t, distance in enumerate(distances):
            np.less_equal(costs, self._lmbda, out=stays[t])
            np.minimum(costs, self._lmbda, out=costs)
            costs += distance
            cheapest[t] = best = costs.argmin()
            costs -= costs[best]
        self._stays.append(np.packbits(stays, axis=1))
        self._cheapest.append(cheapest)

    def units(self) -> Tensor:
        """The cheapest units of all frames so far, [N] int64 on the CPU."""
        cheapest = np.concatenate(
            [np.zeros(1, np.int32), *self._cheapest]
        ).tolist()  # of the frame before each, and last
        found = np.empty(len(cheapest) - 1, dtype=np.int64)
        unit, t = cheapest[-1], len(found)
        for stays in reversed(self._stays):
            for bits in stays[::-1]:
                t -= 1
                found[t] = unit
                if not bits[unit >> 3] & (128 >> (unit & 7)):
                    unit = cheapest[t]
        return torch.from_numpy(found)


def _prune(distances: np.ndarray, count: int) -> None:
    """Make all but the ``count`` least of each row of [n, K] infinite, in place; of equal ones the first are kept."""
    furthest = np.partition(distances, count - 1, axis=1)[:, count - 1 : count]
    is_near = distances <= furthest
    for row in np.flatnonzero(is_near.sum(axis=1) > count):
        tied = np.flatnonzero(distances[row] == furthest[row])
        is_near[row, tied[count - int((distances[row] < furthest[row]).sum()) :]] = False
    np.copyto(distances, np.float32(np.inf), where=~is_near)
