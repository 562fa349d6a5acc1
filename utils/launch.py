"""One process for each device: started here or by torchrun, ended together, none left behind."""

from __future__ import annotations

import atexit
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

import torch
import torch.distributed as dist
from tqdm import tqdm

from utils import distributed
from utils.errors import STOPPED
from utils.machine import available_cores
from utils.progress import StopRequest

# Seconds that the others get after one has failed, before they are ended.
GRACE = 1.0
# Seconds between two looks at whether a stop was asked for.
POLL = 0.1


def started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ or {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys()


def join_torchrun(gpus: object) -> torch.device:
    """Join the processes that torchrun started, on any number of nodes; returns this process's device."""
    local = int(os.environ["LOCAL_RANK"])
    devices = distributed.parse_devices(gpus)
    if all(device.type == "cpu" for device in devices):
        device = torch.device("cpu")
    elif local < len(devices):
        device = devices[local]
    else:
        raise ValueError(f"torchrun started process {local} on this node, but gpus names {len(devices)} devices")
    _limit_threads(device, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    distributed.join(device)
    return device


def launch(devices: Sequence[torch.device], work: Callable[..., int], *args: object) -> int:
    """Run ``work(device, *args)`` in one process a device, and return the first exit status that is not 0.

    One device runs in this very process. With several, what asks this process to stop (Ctrl-C, SIGTERM, SIGUSR1)
    becomes a SIGTERM there; they finish their step and save. A second Ctrl-C ends them.
    """
    if len(devices) == 1:
        distributed.select(devices[0])
        return work(devices[0], *args)
    # The store lives here, on a port that the system chose, so that no other program can take it in between.
    store = dist.TCPStore("127.0.0.1", 0, world_size=None, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_child, args=(rank, list(devices), store.port, work, args))
        for rank in range(len(devices))
    ]
    stop = StopRequest()
    try:
        with stop.on_signals(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            for process in processes:
                process.start()
            return _wait(processes, stop)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()


def _wait(processes: Sequence[multiprocessing.Process], stop: StopRequest) -> int:
    """Wait for all; the status of the first that failed. When one fails, the others can only hang, and are left."""
    status, failed, relayed = 0, None, False
    waiting = {process.sentinel: process for process in processes}
    while waiting and (failed is None or time.monotonic() < failed + GRACE):
        if stop.requested and not relayed:
            relayed = True
            for process in waiting.values():
                process.terminate()
        for sentinel in multiprocessing.connection.wait(list(waiting), timeout=POLL):
            process = waiting.pop(sentinel)
            process.join()
            found = process.exitcode
            if stop.requested and found in (-signal.SIGTERM, -signal.SIGUSR1):
                found = STOPPED  # asked before it had anything to save
            status = status or found
            if found not in (0, STOPPED):  # who was asked to stop may still be saving
                failed = failed or time.monotonic()
    return 128 - status if status < 0 else status


def _child(rank: int, devices: list[torch.device], port: int, work: Callable[..., int], args: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # tqdm's own lock is a semaphore, which a process that is ended leaves behind
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _limit_threads(devices[rank], len(devices))
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    distributed.join(devices[rank], store=store, rank=rank, world_size=len(devices))
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


def _limit_threads(device: torch.device, processes: int) -> None:
    """Processes on the CPU share its cores; each taking all of them is slower than one process."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, available_cores() // processes))
