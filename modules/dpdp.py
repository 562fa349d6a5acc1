"""Duration-penalised units: the path through a codebook that pays for every change (arXiv 2505.23494, 1904.02079).

Of units u_1 .. u_N the cost is sum_t |x_t - c_{u_t}|^2 - lmbda * (frames that have the unit of the frame before). The
least is found in O(N K) by V_t(k) = |x_t - c_k|^2 + min(V_{t-1}(k) - lmbda, min_j V_{t-1}(j)).

The steps over time are NumPy's, on all K at once, wherever the distances are computed: 27 microseconds a frame of 1,000
units (Intel Xeon, one core), less than what the distances take. With torch's operations they took 71; a kernel by numba
2, but it is compiled for 3 s in each process, and would be one dependency more.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from modules.kmeans import full_precision

_BLOCK = 1024  # frames whose distances are in memory at a time


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
        lengths: [B] frames of each row, above 0; None: all are whole.

    Returns:
        Units [B, N] int64, 0 beyond a row's length; costs [B] float64. Both are on the CPU.

    Raises:
        ValueError: shapes or settings that cannot be, or features that are not finite.
    """
    if features.ndim != 3 or codebook.ndim != 2 or features.shape[2] != codebook.shape[1] or 0 in features.shape:
        raise ValueError(
            f"features must be [B, N, D] and the codebook [K, D], none of them 0, got {list(features.shape)} and "
            f"{list(codebook.shape)}"
        )
    sizes = [features.shape[1]] * len(features) if lengths is None else [int(length) for length in lengths]
    if len(sizes) != len(features) or not all(0 < size <= features.shape[1] for size in sizes):
        raise ValueError(
            f"lengths must be {len(features)} numbers of frames from 1 to {features.shape[1]}, got {sizes}"
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
    """What units [N] of features [N, D] cost, in float64."""
    total = -lmbda * int((units[1:] == units[:-1]).sum())
    for start in range(0, len(features), _BLOCK):
        part = slice(start, start + _BLOCK)
        rows = codebook[units[part].to(codebook.device)].double()
        total += float((features[part].double() - rows).square().sum())
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

    Per frame it keeps one bit a unit, whether that stays, and the unit that is cheapest before it.

    Args:
        codebook: [K, D].
        lmbda, num_neighbors: see ``dpdp``.

    Raises:
        ValueError: settings that cannot be.
    """

    def __init__(self, codebook: Tensor, *, lmbda: float, num_neighbors: float | int | None = None):
        if not 0 <= lmbda < float("inf"):
            raise ValueError(f"lmbda must be a number that is not below 0, got {lmbda}")
        self._lmbda = float(lmbda)
        self._count = count_of_neighbors(num_neighbors, len(codebook))
        self._codebook = codebook.float()
        self._squared_norms = self._codebook.square().sum(dim=1)
        self._stays: list[np.ndarray] = []  # of each block [n, K / 8], packed
        self._cheapest: list[np.ndarray] = []  # of each block [n]
        self._cost: np.ndarray | None = None  # [K], less the least

    @torch.no_grad()
    def add(self, features: Tensor) -> None:
        """More frames, [n, D].

        Raises:
            ValueError: they are not finite.
        """
        for start in range(0, len(features), _BLOCK):
            part = features[start : start + _BLOCK]
            with full_precision(part.device):
                near = torch.addmm(self._squared_norms, part.float(), self._codebook.T, alpha=-2)
            distances = near.cpu().numpy()  # less |x|^2, which is the same for all units of a frame
            if not np.isfinite(distances).all():
                raise ValueError("the features are not finite")
            self._walk(self._pruned(distances).astype(np.float64))

    def _pruned(self, distances: np.ndarray) -> np.ndarray:
        """[n, K], infinite where a frame may not have a unit; of equally near ones the first are taken."""
        count = self._count
        if count == distances.shape[1]:
            return distances
        furthest = np.partition(distances, count - 1, axis=1)[:, count - 1 : count]
        is_near = distances <= furthest
        for row in np.flatnonzero(is_near.sum(axis=1) > count):
            tied = np.flatnonzero(distances[row] == furthest[row])
            is_near[row, tied[count - int((distances[row] < furthest[row]).sum()) :]] = False
        return np.where(is_near, distances, np.inf)

    def _walk(self, distances: np.ndarray) -> None:
        stays = np.zeros(distances.shape, dtype=bool)
        cheapest = np.zeros(len(distances), dtype=np.int64)
        costs, first = self._cost, 0
        if costs is None:
            costs, first = distances[0] - distances[0].min(), 1
        staying = np.empty_like(costs)
        for t in range(first, len(distances)):  # the least of ``costs`` is 0, so that float64 keeps its digits
            cheapest[t] = costs.argmin()
            np.subtract(costs, self._lmbda, out=staying)
            np.less_equal(staying, 0.0, out=stays[t])
            np.minimum(staying, 0.0, out=costs)
            costs += distances[t]
            costs -= costs.min()
        self._cost = costs
        self._stays.append(np.packbits(stays, axis=1))
        self._cheapest.append(cheapest)

    def units(self) -> Tensor:
        """The cheapest units of all frames so far, [N] int64 on the CPU."""
        found = np.zeros(sum(map(len, self._cheapest)), dtype=np.int64)
        if not len(found):
            return torch.from_numpy(found)
        unit, t = int(self._cost.argmin()), len(found)
        for stays, cheapest in zip(reversed(self._stays), reversed(self._cheapest), strict=True):
            for row in range(len(cheapest) - 1, -1, -1):
                t -= 1
                found[t] = unit
                if not stays[row, unit >> 3] >> (7 - (unit & 7)) & 1:
                    unit = int(cheapest[row])
        return torch.from_numpy(found)
