"""The precisions to compute in: which there are, what ``auto`` is on a device, and the contexts that compute in one.

``auto`` is bf16 where the device has instructions for its products (a GPU of compute capability 8.0 or above, a CPU
with AVX512-BF16 or AMX-BF16), and fp32 elsewhere, where bf16 is emulated: on a CPU with AVX2 alone a product of bf16
matrices was measured at 0.8 GFLOP/s beside 71 in fp32. It is for work that comes out equally well in both. Since its
results differ between kinds of machines, whoever computes with it writes down what it became: ``resolve_precision``
tells.

A training that goes on, on a machine of another kind, computes in what ``auto`` is there: the weights are float32 in
both cases, and a run that had to go on in an emulated precision would be of no use. To keep to the bit what a run began
with, name the precision.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator

import torch
from torch.overrides import TorchFunctionMode

# tf32: tensors are float32, and CUDA rounds what enters a product or a convolution to 10 bits of mantissa.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
AUTO = "auto"
# What torch.cpu.get_capabilities() calls the instructions for products in them. Those of x86; none is known elsewhere.
_INSTRUCTIONS = {"bf16": ("avx512_bf16", "amx_bf16"), "fp16": ("avx512_fp16", "amx_fp16")}
_CUDA_CAPABILITY = {"bf16": (8, 0), "fp16": (7, 0)}  # from which on tensor cores multiply them
# Of oneDNN's names for instruction sets, those without products of bf16. The variables set the most that it may use;
# https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
_ONEDNN_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_ONEDNN_BEFORE_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
log = logging.getLogger(__name__)


def require_known(precision: str) -> None:
    """Raise a ValueError if there is no such precision."""
    if precision != AUTO and precision not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join((*DTYPES, AUTO))}, got {precision!r}")


def is_native(precision: str, device: torch.device) -> bool:
    """Whether a device has instructions for products in ``precision``; else torch emulates them.

    On a CPU also ``ATEN_CPU_CAPABILITY`` and ``ONEDNN_MAX_CPU_ISA``, which keep torch from instructions, are heeded.
    """
    if DTYPES[precision] == torch.float32:
        return True
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _CUDA_CAPABILITY[precision]
    if device.type != "cpu":
        return False
    found = torch.cpu.get_capabilities()
    allowed = next((os.environ[name].upper() for name in _ONEDNN_VARIABLES if os.environ.get(name)), "DEFAULT")
    return (
        any(found.get(name, False) for name in _INSTRUCTIONS[precision])
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and allowed not in _ONEDNN_BEFORE_BF16
    )


def instructions(device: torch.device) -> str:
    """A device's instruction set, and which precisions it has in hardware, for a line in a report."""
    if device.type == "cuda":
        kind = "compute capability {}.{}".format(*torch.cuda.get_device_capability(device))
    else:
        kind = torch.backends.cpu.get_cpu_capability()
    return ", ".join([kind, *(f"{n} {'in hardware' if is_native(n, device) else 'emulated'}" for n in _INSTRUCTIONS)])


def resolve_precision(precision: str, device: str | torch.device) -> str:
    """What is computed in: ``auto`` becomes what the device is made for, a name stays what it is.

    A precision that was asked for by name and is emulated there is said once, in a line of the log with the faster
    choice.

    Returns:
        One of ``DTYPES``.

    Raises:
        ValueError: there is no such precision.
    """
    require_known(precision)
    device = torch.device(device)
    if precision == AUTO:
        return "bf16" if is_native("bf16", device) else "fp32"
    if not is_native(precision, device):
        _warn_of_emulation(precision, device.type)
    return precision


@functools.cache  # once for each
def _warn_of_emulation(precision: str, device: str) -> None:
    log.warning(
        "precision %s is emulated here: this %s has no instructions for it, and fp32 is faster (auto chooses)",
        precision,
        device.upper() if device == "cpu" else f"{device} device",
    )


@contextlib.contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Compute in ``precision``, or in what ``auto`` is on ``device``, within this context, whatever holds around it.

    ``fp32`` and ``tf32`` differ on CUDA only.
    """
    precision = resolve_precision(precision, device)
    dtype = DTYPES[precision]
    narrow = dtype == torch.bfloat16 and device.type == "cpu" and narrow_convolutions_are_wrong()
    with (
        float32_products(precision),
        torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32),
        _NarrowConvolutionsInFloat32() if narrow else contextlib.nullcontext(),
    ):
        yield


@functools.cache  # the machine stays what it is
def narrow_convolutions_are_wrong() -> bool:
    """Whether bf16 convolutions of few channels give nonsense on this CPU.

    With AMX they do in torch 2.11 (oneDNN 3.10.2): of 2 to 12 input channels a group and an even kernel, the results
    are off by as much as they are large, without an error. Those of one channel and of 16 and more are right, and all
    are right without AMX (``ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16``).
    """
    signal, kernels = torch.ones(1, 8, 32), torch.ones(8, 8, 16)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        found = torch.conv1d(signal.bfloat16(), kernels.bfloat16()).float()
    return not torch.allclose(found, torch.full_like(found, 8 * 16), rtol=0.01)


class _NarrowConvolutionsInFloat32(TorchFunctionMode):
    """Compute the convolutions of ``narrow_convolutions_are_wrong`` in float32: they are small.

    A transposed convolution is right, but the gradient of its input is such a convolution.
    """

    kinds = frozenset(
        getattr(torch, f"conv{transposed}{dims}d") for transposed in ("", "_transpose") for dims in (1, 2, 3)
    )

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in self.kinds and 1 < args[1].shape[1] < 16:  # input channels of a group; output, if transposed
            with torch.autocast("cpu", enabled=False):
                return func(*map(_as_float32, args), **{name: _as_float32(value) for name, value in kwargs.items()})
        return func(*args, **kwargs)


def _as_float32(value: object) -> object:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 else value


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
