"""The precisions to compute in: which there are, and the contexts that compute in one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

# tf32: tensors are float32, and CUDA rounds what enters a product or a convolution to 10 bits of mantissa.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def require_known(precision: str) -> None:
    """Raise a ValueError if there is no such precision."""
    if precision not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}, got {precision!r}")


@contextlib.contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Compute in ``precision`` within this context, whatever holds around it.

    Of the four, ``fp32`` and ``tf32`` differ on CUDA only.
    """
    dtype = DTYPES[precision]
    with float32_products(precision), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        yield


@contextlib.contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Within this context float32 products and convolutions on CUDA are TF32 with ``tf32``, else not.

    torch by itself lets convolutions be TF32, and some libraries, once imported, let products be too. It is asked when
    a kernel is launched, and the graph does not remember it as it does autocast's casts: a backward pass needs this
    context too. The setting is the whole process's, not a thread's.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        yield
    finally:
        for backend, setting in zip(backends, before, strict=True):
            backend.fp32_precision = setting
