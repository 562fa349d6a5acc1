"""Units without repeats: what both language models read."""

from __future__ import annotations

import torch
from torch import Tensor


def collapsed(units: Tensor, num_clusters: int) -> Tensor:
    """Units [U] in [0, K) without repeats, int64 on the CPU.

    Raises:
        ValueError: another shape, no units, or units outside [0, K).
    """
    units = torch.as_tensor(units).cpu()
    if units.ndim != 1 or not len(units) or units.is_floating_point() or units.dtype == torch.bool:
        raise ValueError(f"units must be whole numbers [U], one or more, got {units.dtype} {list(units.shape)}")
    if not 0 <= int(units.min()) <= int(units.max()) < num_clusters:
        raise ValueError(f"units must be in [0, {num_clusters}), they are {int(units.min())} to {int(units.max())}")
    return torch.unique_consecutive(units.long())
