"""Jobs over processes: each takes the next job when it is free; a job that fails, and a process, fails alone."""

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
log = logging.getLogger(__name__)


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
        RuntimeError: a process died as it started.
    """
    if not jobs:
        return
    if len(devices) == 1 or len(jobs) == 1:
        work = start(devices[0], *args)
        for job in jobs:
            yield _do(work, job)
        return
    pool = _Pool(start, args)
    try:
        for device in devices[: len(jobs)]:
            pool.add(device)
        yield from _hand_out(jobs, pool)
    finally:
        pool.end()


@dataclass
class _Worker:
    process: multiprocessing.Process
    device: torch.device | str
    ready: bool = False


class _Pool:
    """Processes that do jobs, by the connections to them."""

    def __init__(self, start: Callable[..., Work], args: tuple):
        self.start = start
        self.args = args
        self.workers: dict[multiprocessing.connection.Connection, _Worker] = {}
        self._context = multiprocessing.get_context("spawn")

    def add(self, device: torch.device | str) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self.start, device, self.args), daemon=True)
        process.start()
        theirs.close()
        self.workers[ours] = _Worker(process, device)

    def remove(self, connection: multiprocessing.connection.Connection) -> tuple[_Worker, str]:
        """Take out a process that died; with the reason."""
        worker = self.workers.pop(connection)
        connection.close()
        worker.process.join()
        return (
            worker,
            f"its process died with exit status {worker.process.exitcode} (-9: killed, perhaps for its memory)",
        )

    def end(self) -> None:
        for worker in self.workers.values():
            worker.process.terminate()
        for worker in self.workers.values():
            worker.process.join(timeout=10)
            worker.process.kill()


def _hand_out(jobs: Sequence[Any], pool: _Pool) -> Iterator[Finished]:
    """A process that dies is replaced, and the job that it had is tried once more: it may not have been the cause."""
    waiting, tried = list(range(len(jobs)))[::-1], set()
    at_work: dict[Any, int] = {}  # connection -> the number of its job
    while waiting or at_work:
        for connection in multiprocessing.connection.wait(list(pool.workers)):
            try:
                kind, value = connection.recv()
            except (EOFError, OSError):
                kind, value = "died", None
            number = at_work.pop(connection, None)
            if kind == "broken":
                raise ValueError(value)
            if kind == "finished":
                yield value
            if kind != "died":
                pool.workers[connection].ready = True
                if not waiting:
                    continue
                at_work[connection] = waiting.pop()
                try:
                    connection.send(jobs[at_work[connection]])
                    continue
                except OSError:  # it died between two jobs
                    number = at_work.pop(connection)
            worker, reason = pool.remove(connection)
            if not worker.ready:
                raise RuntimeError(f"a worker could not start: {reason}")
            if number is not None and number in tried:
                yield Finished(jobs[number], error=reason)
            elif number is not None:
                tried.add(number)
                waiting.append(number)
            if waiting:
                log.warning("a worker is replaced: %s", reason)
                pool.add(worker.device)


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
        log.exception("while doing %s", job)
        return Finished(job, error=f"{type(error).__name__}: {error}")
