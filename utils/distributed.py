"""Several processes: who am I, how do we start, and sums over all. A single process is the plain case."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from utils.errors import STOPPED
from utils.machine import available_cores

# A process that waits for another one (which writes a checkpoint, say) gives up after this time.
TIMEOUT = timedelta(minutes=30)
# Seconds that the others get after one has failed, before they are ended.
GRACE = 1.0


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
    """The sum of every process's tensor, in every process."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def from_main(value: Any) -> Any:
    """The main process's value, in every process."""
    box = [value]
    if world_size() > 1:
        dist.broadcast_object_list(box)
    return box[0]


def parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """Average the module's gradients over all processes; the module itself if there is only one."""
    if world_size() == 1:
        return module
    # Buffers are tables that never change; sending them in every step would only cost time.
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)


@contextlib.contextmanager
def without_sync(modules: Sequence[nn.Module], active: bool) -> Iterator[None]:
    """Leave the averaging of gradients to a later backward pass of the same step."""
    with contextlib.ExitStack() as stack:
        for module in modules:
            if active and isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        yield


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


def started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ or {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys()


def join_torchrun(gpus: object) -> torch.device:
    """Join the processes that torchrun started, on any number of nodes; returns this process's device."""
    local = int(os.environ["LOCAL_RANK"])
    devices = parse_devices(gpus)
    if all(device.type == "cpu" for device in devices):
        device = torch.device("cpu")
    elif local < len(devices):
        device = devices[local]
    else:
        raise ValueError(f"torchrun started process {local} on this node, but gpus names {len(devices)} devices")
    _limit_threads(device, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    _init(device)
    return device


def launch(devices: Sequence[torch.device], work: Callable[..., int], *args: object) -> int:
    """Run ``work(device, *args)`` in one process a device, and return the first exit status that is not 0.

    One device runs in this very process. With several, Ctrl-C here becomes a SIGTERM there, so that no process gets
    it twice, from the terminal and from here.
    """
    if len(devices) == 1:
        select(devices[0])
        return work(devices[0], *args)
    # The store lives here, on a port that the system chose, so that no other program can take it in between.
    store = dist.TCPStore("127.0.0.1", 0, world_size=None, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_child, args=(rank, list(devices), store.port, work, args))
        for rank in range(len(devices))
    ]
    for process in processes:
        process.start()

    asked = []

    def stop(number: int, frame: object) -> None:
        # Asked once, they finish their step and save. Asked again, they are ended.
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL if asked else signal.SIGTERM)
        asked.append(number)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(processes)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for process in processes:
            if process.is_alive():
                process.kill()


def _wait(processes: Sequence[multiprocessing.Process]) -> int:
    """Wait for all; the status of the first that failed. When one fails, the others can only hang, and are left."""
    status, failed = 0, False
    waiting = {process.sentinel: process for process in processes}
    while waiting:
        ready = multiprocessing.connection.wait(list(waiting), timeout=GRACE if failed else None)
        if not ready:
            break
        for sentinel in ready:
            process = waiting.pop(sentinel)
            process.join()
            status = status or process.exitcode
            failed = failed or process.exitcode not in (0, STOPPED)  # who was asked to stop may still be saving
    return 128 - status if status < 0 else status


def _child(rank: int, devices: list[torch.device], port: int, work: Callable[..., int], args: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # tqdm's own lock is a semaphore, which a process that is ended leaves behind
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _limit_threads(devices[rank], len(devices))
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    _init(devices[rank], store=store, rank=rank, world_size=len(devices))
    end(work(devices[rank], *args))


def end(status: int) -> NoReturn:
    """End this process, one of several, now.

    The ordinary way out destroys torch's communication threads in whatever order comes, which sometimes aborts a
    process that had done all its work. So do what Python has noted for its end, and leave the rest undone.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end_with_parent(parent: int) -> None:
    """Without this, processes whose parent was killed would train on, unseen."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _init(device: torch.device, **where: object) -> None:
    select(device)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        timeout=TIMEOUT,
        device_id=device if device.type == "cuda" else None,
        **where,
    )


def _limit_threads(device: torch.device, processes: int) -> None:
    """Processes on the CPU share its cores; each taking all of them is slower than one process."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, available_cores() // processes))


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
