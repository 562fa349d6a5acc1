"""What a figure was measured on: the device's name, its number formats, and the memory that a process used."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path

import torch

# Of oneDNN's names for instruction sets, those without products of bf16. The variables that name one set the most that
# its kernels may use; https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
_ONEDNN_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


def device_name(device: torch.device) -> str:
    """The name of a GPU, or of the CPU with its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()}, {os.cpu_count()} cores"


def multiplies(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a device has instructions for products of such numbers; else torch emulates them, at a hundredth of the
    speed on some processors.

    On a CPU also ``ATEN_CPU_CAPABILITY`` and ``ONEDNN_MAX_CPU_ISA``, which keep torch from instructions, are heeded.
    Only those of x86 are known here: on another CPU the answer is no for all but float32 and float64.
    """
    if dtype in (torch.float32, torch.float64):
        return True
    if device.type == "cuda":
        needed = {torch.bfloat16: (8, 0), torch.float16: (7, 0)}  # with tensor cores
        return dtype in needed and torch.cuda.get_device_capability(device) >= needed[dtype]
    if device.type != "cpu":
        return False
    instructions = {torch.bfloat16: ("avx512_bf16", "amx_bf16"), torch.float16: ("avx512_fp16", "amx_fp16")}
    found = torch.cpu.get_capabilities()
    allowed = next((os.environ[name].upper() for name in _ONEDNN_VARIABLES if os.environ.get(name)), "DEFAULT")
    return (
        any(found.get(name, False) for name in instructions.get(dtype, ()))
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and allowed not in _WITHOUT_BF16
    )


def instructions(device: torch.device) -> str:
    """Which number formats a device multiplies by itself, and a CPU's instruction set, for a line in a report."""
    if device.type == "cuda":
        kind = "compute capability {}.{}".format(*torch.cuda.get_device_capability(device))
    else:
        kind = torch.backends.cpu.get_cpu_capability()
    formats = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return f"{kind}, " + ", ".join(
        f"{name} {'in hardware' if multiplies(dtype, device) else 'emulated'}" for name, dtype in formats.items()
    )


def peak_memory() -> int:
    """The most memory that this process has used so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says begins with the memory of the process that started this one
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def peak_gpu_memory(device: torch.device) -> int | None:
    """The most memory that this process's tensors have taken on a GPU so far, in bytes; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
