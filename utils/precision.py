"""Mixed precision: which there are, and the context that computes in one."""

from __future__ import annotations

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def require_known(precision: str) -> None:
    """Raise a ValueError if there is no such precision."""
    if precision not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}, got {precision!r}")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Compute in ``precision`` within this context, whatever holds around it."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")
