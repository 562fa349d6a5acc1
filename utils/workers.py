"""Jobs over processes: each takes the next job when it is free, and a job that fails, fails alone."""

from __future__ import annotations

import logging
import multiprocessing.connection
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from utils.errors import USER_ERRORS, describe
from utils.logging import setup_console

if TYPE_CHECKING:  # torch takes half a gigabyte, and work may be without it
    import torch

Work = Callable[[Any], Any]


@dataclass(frozen=True)
class Finished:
    """A job that is over.

    Attributes:
        job: as it was given.
        result: what the work returned.
        error: why it failed, or None.
    """

    job: Any
    result: Any = None
    error: str | None = None


def run_jobs(
    jobs: Sequence[Any], start: Callable[..., Work], devices: Sequence[torch.device | str], *args: Any
) -> Iterator[Finished]:
    """Do the jobs in one process for each entry of ``devices``, and yield each as it is over.

    Jobs are handed out in order, so the longest should come first. A single process is this one.

    Args:
        start: ``start(device, *args)`` makes the function that does a job. It must be importable.
        devices: of the processes; one may occur several times.

    Raises:
        ValueError: ``start`` failed.
        RuntimeError: no process is left to do the jobs.
    """
    if not jobs:
        return
    if len(devices) == 1 or len(jobs) == 1:
        work = start(devices[0], *args)
        for job in jobs:
            yield _do(work, job)
        return
    context = multiprocessing.get_context("spawn")
    workers: dict[multiprocessing.connection.Connection, multiprocessing.Process] = {}
    for device in devices[: len(jobs)]:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, start, device, args), daemon=True)
        process.start()
        theirs.close()
        workers[ours] = process
    try:
        yield from _hand_out(jobs, workers)
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.join(timeout=10)
            process.kill()


def _hand_out(jobs: Sequence[Any], workers: dict) -> Iterator[Finished]:
    waiting = list(reversed(jobs))
    at_work: dict[Any, Any] = {}  # connection -> its job; absent before it is ready
    while waiting or at_work:
        if not workers:
            raise RuntimeError(f"all processes died; {len(waiting)} jobs are left")
        for connection in multiprocessing.connection.wait(list(workers)):
            try:
                kind, value = connection.recv()
            except EOFError:
                process = workers.pop(connection)
                process.join()
                reason = f"its process died with exit status {process.exitcode} (-9: killed, perhaps for its memory)"
                if connection not in at_work:
                    raise RuntimeError(f"a worker could not start: {reason}") from None
                yield Finished(at_work.pop(connection), error=reason)
                continue
            if kind == "broken":
                raise ValueError(value)
            if kind == "finished":
                at_work.pop(connection)
                yield value
            if waiting:
                at_work[connection] = waiting.pop()
                connection.send(at_work[connection])


def _serve(connection: multiprocessing.connection.Connection, start: Callable[..., Work], device, args: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends the others
    tqdm.set_lock(threading.RLock())  # tqdm's own lock is a semaphore, which a process that is ended leaves behind
    setup_console(main=False)
    try:
        work = start(device, *args)
    except USER_ERRORS as error:
        connection.send(("broken", describe(error)))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave through the `finally`s: no temporary file stays
    connection.send(("ready", None))
    while True:
        try:
            job = connection.recv()
        except EOFError:  # the main process is gone
            return
        connection.send(("finished", _do(work, job)))


def _do(work: Work, job: Any) -> Finished:
    try:
        return Finished(job, result=work(job))
    except USER_ERRORS as error:
        return Finished(job, error=describe(error))
    except Exception as error:  # a fault of ours, or no memory: this job fails, the others are done all the same
        logging.getLogger(__name__).exception("while doing %s", job)
        return Finished(job, error=f"{type(error).__name__}: {error}")
