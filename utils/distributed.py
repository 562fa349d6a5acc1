"""Several processes: who am I, what do the others have, and sums over all. A single process is the plain case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from utils.errors import first_few
from utils.machine import available_cores

# A process that waits for another one (which writes a checkpoint, say) gives up after this time.
TIMEOUT = timedelta(minutes=30)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
# Values that are sent together.
PART = 2**23
# The group in which hosts talk to each other without their devices; None: the usual one.
_control: dist.ProcessGroup | None = None


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum of every process's tensor, in every process, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def sum_all_over_processes(tensors: Sequence[torch.Tensor]) -> None:
    """The same for many tensors, which travel together in parts of some megabytes."""
    if world_size() == 1:
        return
    parts: list[list[torch.Tensor]] = []
    size = PART
    for tensor in sorted(tensors, key=lambda x: str(x.dtype)):
        if size + tensor.numel() > PART or parts[-1][0].dtype != tensor.dtype:
            parts.append([])
            size = 0
        parts[-1].append(tensor)
        size += tensor.numel()
    sent = []
    for part in parts:
        flat = torch.cat([tensor.reshape(-1) for tensor in part])
        sent.append((flat, dist.all_reduce(flat, async_op=True)))
    for part, (flat, work) in zip(parts, sent, strict=True):
        work.wait()
        for tensor, values in zip(part, flat.split([tensor.numel() for tensor in part]), strict=True):
            tensor.copy_(values.view(tensor.shape))


def any_over_processes(*flags: bool) -> tuple[bool, ...]:
    """Of each flag whether it is set in any process. The hosts talk; no device is waited for.

    Raises:
        TimeoutError: a process does not answer within ``TIMEOUT``.
    """
    if world_size() == 1:
        return flags
    values = torch.tensor(flags, dtype=torch.uint8)
    try:
        dist.all_reduce(values, dist.ReduceOp.MAX, group=_control)
    except RuntimeError as error:
        if "imed out" not in str(error):
            raise
        raise TimeoutError(
            f"process {rank()} has waited {TIMEOUT.total_seconds() / 60:g} minutes for another one, which hangs: in "
            "its loader, perhaps, or at a disk that does not answer. The same command goes on from the last checkpoint"
        ) from error
    return tuple(map(bool, values.tolist()))


def gather(value: Any) -> list[Any]:
    """Every process's value, in every process."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value, group=_control)
    return values


def from_main(value: Any) -> Any:
    """The main process's value, in every process."""
    box = [value]
    if world_size() > 1:
        dist.broadcast_object_list(box, group=_control)
    return box[0]


def begin_alike(modules: Mapping[str, nn.Module]) -> None:
    """Give every process the main one's parameters and buffers, also those that are not saved."""
    if world_size() > 1:
        for module in modules.values():
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor.detach(), 0)


@torch.no_grad()
def average_running_statistics(modules: Mapping[str, nn.Module]) -> None:
    """Average the running means and variances of batch normalisation, which each process has of its own batches."""
    if world_size() > 1:
        found = [
            statistic
            for module in modules.values()
            for part in module.modules()
            if isinstance(part, NORMS) and part.training and part.running_mean is not None
            for statistic in (part.running_mean, part.running_var)
        ]
        sum_all_over_processes([statistic.div_(world_size()) for statistic in found])


@torch.no_grad()
def require_equal_buffers(modules: Mapping[str, nn.Module]) -> None:
    """Refuse buffers that have become different in the processes, of which only the main one's would be saved.

    Raises:
        RuntimeError: some differ; their names are listed.
    """
    if world_size() == 1:
        return
    sums = {
        f"{owner}.{name}": _digest(buffer)
        for owner, module in modules.items()
        for name, buffer in module.named_buffers()
    }
    if not sums:
        return
    low, high = (torch.stack(list(sums.values())) for _ in range(2))
    dist.all_reduce(low, dist.ReduceOp.MIN)
    dist.all_reduce(high, dist.ReduceOp.MAX)
    if differing := [name for name, same in zip(sums, (low == high).tolist(), strict=True) if not same]:
        raise RuntimeError(
            f"{len(differing)} buffers differ from process to process: {first_few(differing)}. What changes a buffer "
            "in training must be summed over the processes: see Task.end_step"
        )


def _digest(tensor: torch.Tensor) -> torch.Tensor:
    """Of a tensor's bits and their places a number [], on its device: a hash on the host would have to fetch them."""
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    flat = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    flat = flat.contiguous().reshape(-1)
    bits = (flat.to(torch.uint8) if flat.dtype == torch.bool else flat.view(integers[flat.element_size()])).long()
    return (bits * (2 * torch.arange(len(bits), device=bits.device) + 1)).sum()  # overflows, everywhere alike


def parse_devices(gpus: object) -> list[torch.device]:
    """The devices that a recipe's ``gpus`` names.

    Args:
        gpus: ``auto`` (all CUDA devices, else the CPU), a device number or name, or a list of them. A device that is
            named twice gets two processes.

    Raises:
        ValueError: not a device, or one that this machine does not have.
    """
    if gpus in ("auto", None):
        count = torch.cuda.device_count()
        return [torch.device("cuda", i) for i in range(count)] or [torch.device("cpu")]
    entries = gpus if isinstance(gpus, list | tuple) else [gpus]
    if not entries:
        raise ValueError("gpus is an empty list; name devices, or say auto or cpu")
    devices = []
    for entry in entries:
        number = not isinstance(entry, bool) and str(entry).isdigit()
        try:
            device = torch.device("cuda", int(entry)) if number else torch.device(str(entry))
        except RuntimeError:
            raise ValueError(f"gpus: {entry!r} is not a device; use numbers, cuda:0, cpu or auto") from None
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"gpus: {entry!r} is no device that is supported; use numbers, cuda:0, cpu or auto")
        if device.type == "cuda":
            device = torch.device("cuda", device.index or 0)
            if device.index >= torch.cuda.device_count():
                raise ValueError(
                    f"gpus: {entry!r} asked for, but this machine has {torch.cuda.device_count()} CUDA devices"
                )
        devices.append(device)
    return devices


def process_devices(gpus: Sequence[str], processes: int | None, *, jobs: int) -> list[torch.device]:
    """The device of each process of a program that divides ``jobs`` over several.

    Args:
        gpus: names of devices, or ``["auto"]``.
        processes: how many; None: one a GPU, or one a core. There are never more than jobs, and always one.

    Raises:
        ValueError: as ``parse_devices``.
    """
    devices = parse_devices("auto" if list(gpus) == ["auto"] else list(gpus))
    default = len(devices) if devices[0].type == "cuda" else available_cores()
    return [devices[i % len(devices)] for i in range(max(1, min(processes or default, jobs)))]


def select(device: torch.device) -> None:
    """Make a CUDA device this process's own: what names no device must not wake another one."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def join(device: torch.device, **where: object) -> None:
    """Make this process one of several.

    Args:
        where: as for ``torch.distributed.init_process_group``; nothing: as torchrun's environment says.
    """
    global _control
    select(device)
    is_cuda = device.type == "cuda"
    dist.init_process_group(
        "nccl" if is_cuda else "gloo", timeout=TIMEOUT, device_id=device if is_cuda else None, **where
    )
    _control = dist.new_group(backend="gloo", timeout=TIMEOUT) if is_cuda else None


def leave() -> None:
    global _control
    _control = None
    if dist.is_initialized():
        dist.destroy_process_group()
