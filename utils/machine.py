"""The machine: the cores that this process may use, the device's name, the memory that it used."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # takes half a gigabyte, and who asks for cores may be without it
    import torch

CGROUPS = Path("/sys/fs/cgroup")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_FROM_SYSTEM = 2**30  # bytes: larger blocks still come from the system and go back to it


def available_cores() -> int:
    """The cores that this process may use: those it is bound to, and no more than its control groups' share of time.

    A container or a scheduler's job often has two of a machine's hundred cores, and ``os.cpu_count()`` says a hundred.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *map(math.ceil, _quotas(Path("/proc/self/cgroup"), CGROUPS))]))


def device_name(device: torch.device) -> str:
    """The name of a GPU, or of the CPU with its number of cores."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()}, {available_cores()} cores"


def peak_memory() -> int:
    """The most memory that this process has used so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says begins with the memory of the process that started this one
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def keep_freed_memory() -> None:
    """Large blocks that this process frees stay its own, and are used again.

    The C library gives every block of some MB back to the system as it is freed, and the next one comes page by page,
    zeroed: a step of training on a CPU spent half of its time on that. The process then stays as large as it once was.
    For the GNU C library; elsewhere nothing is changed.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _FROM_SYSTEM)
        library.mallopt(_M_TRIM_THRESHOLD, _FROM_SYSTEM)


def peak_gpu_memory(device: torch.device) -> int | None:
    """The most memory that this process's tensors have taken on a GPU so far, in bytes; None on a CPU."""
    if device.type != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_allocated(device)


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _quotas(membership: Path, root: Path) -> list[float]:
    """The cores that each control group above a process grants, of those that limit it.

    Args:
        membership: the file in which the kernel names the groups, one a line: ``0::/a/b`` (version 2) or
            ``4:cpu,cpuacct:/a/b``.
        root: where the groups' files are.
    """
    found = []
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, name = line.split(":", 2)
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        top = root if not controllers else root / (controllers if (root / controllers).exists() else "cpu")
        folder = top / name.lstrip("/")
        # In a container the group may be named as the machine outside sees it; its own files then are at the top.
        for group in (folder, *folder.parents):
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                if controllers:
                    quota, period = (int((group / f"cpu.cfs_{part}_us").read_text()) for part in ("quota", "period"))
                else:
                    quota, period = map(int, (group / "cpu.max").read_text().split())
                if quota > 0 and period > 0:  # version 1 says -1 where there is no limit
                    found.append(quota / period)
            if group == top:
                break
    return found
