"""From data sets to batches: sharded over processes, and resumable at any step."""

from __future__ import annotations

import functools
import logging
import math
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Event
from multiprocessing.util import Finalize
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from utils.errors import USER_ERRORS, describe

log = logging.getLogger(__name__)
# Items after a bad one that are tried in its place.
TRIES = 20


class TrainBatches:
    """Batches of a data set whose items are functions of (epoch, index).

    ``batch_size`` items make a step, over all processes and accumulated micro-batches: step ``s`` has the items
    ``s * batch_size`` to ``(s + 1) * batch_size`` of its epoch, whoever computes them. The rest of an epoch that does
    not fill a step is left out, so that all processes take equally many steps.

    An item that cannot be read (a ValueError or OSError of the data set) is replaced by the next one of its epoch that
    can, so the replacement too follows from (epoch, index) alone. What is wrong is logged once, and how many were
    replaced at the end of the epoch.

    Args:
        dataset: has a length, and items under (epoch, index): tensors by name, of the same shapes in all items; or it
            has a ``collate``, which makes a batch of a list of items.
        batch_size: items of a step in all.
        num_workers: loader processes of each training process; 0 loads in the training process itself.
        max_bad_share: the part of an epoch's items that may be replaced; 0: none.
    """

    def __init__(self, *, dataset: Dataset, batch_size: int, num_workers: int = 0, max_bad_share: float = 0.05):
        if batch_size < 1 or len(dataset) < batch_size:
            raise ValueError(f"an epoch of {len(dataset)} items has no step of {batch_size}")
        _check_workers(num_workers)
        if not 0 <= max_bad_share <= 1:
            raise ValueError(f"max_bad_share must be in [0, 1], got {max_bad_share}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.max_bad_share = max_bad_share
        self._named: set[str] = set()  # what was logged already

    @property
    def steps_per_epoch(self) -> int:
        return len(self.dataset) // self.batch_size

    def micro_batch_size(self, *, world_size: int, accumulate: int) -> int:
        """Items of one forward pass of one process.

        Raises:
            ValueError: ``batch_size`` cannot be divided so.
        """
        parts = world_size * accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size {self.batch_size} (in all) cannot be divided over {world_size} processes "
                f"and {accumulate} micro-batches; choose a multiple of {parts}"
            )
        return self.batch_size // parts

    def names(self, epoch: int, step: int) -> list[str]:
        """What the items of a step are called, of a data set that has ``name`` of a key; else nothing."""
        name = getattr(self.dataset, "name", None)
        first = step * self.batch_size
        return [name((epoch, first + i)) for i in range(self.batch_size)] if name else []

    def epoch(
        self, epoch: int, *, first_step: int = 0, rank: int = 0, world_size: int = 1, accumulate: int = 1
    ) -> Iterator[Any]:
        """The micro-batches of one process, from ``first_step`` to the end of the epoch, ``accumulate`` for a step.

        Raises:
            ValueError: too many items cannot be read; or ``batch_size`` cannot be divided so.
        """
        size = self.micro_batch_size(world_size=world_size, accumulate=accumulate)
        parts = range(first_step * accumulate, self.steps_per_epoch * accumulate)
        starts = [(part * world_size + rank) * size for part in parts]
        keys = [[(epoch, start + i) for i in range(size)] for start in starts]
        return self._replacing(keys, allowed=math.ceil(self.max_bad_share * len(keys) * size))

    def _replacing(self, keys: Sequence[list], *, allowed: int) -> Iterator[Any]:
        """The batches, while no more than ``allowed`` of their items had to be replaced."""
        replaced = 0
        batches = _batches(self.dataset, keys, self.num_workers, tries=TRIES if allowed else 0)
        for number, (batch, problems) in enumerate(batches, start=1):
            for problem in problems:
                if problem not in self._named and batch is not None:
                    self._named.add(problem)
                    log.warning("an item that cannot be read is replaced by another one: %s", problem)
            replaced += len(problems)
            if batch is None or replaced > allowed:
                raise ValueError(
                    f"{problems[-1]} ({replaced} items could not be read; {allowed} of this part of an epoch may be "
                    "replaced by others)"
                )
            if replaced and number == len(keys):
                log.warning("%d items of this part of the epoch were replaced, as they cannot be read", replaced)
            yield batch


class EvalBatches:
    """All items of a fixed data set once, item ``i`` in process ``i % world_size``.

    Args:
        dataset: has a length, and items under an index, as for ``TrainBatches``.
        batch_size: items of a batch over all processes.
        num_workers: as for ``TrainBatches``.
    """

    def __init__(self, *, dataset: Dataset, batch_size: int, num_workers: int = 0):
        if batch_size < 1:
            raise ValueError(f"batch_size_eval must be above 0, got {batch_size}")
        _check_workers(num_workers)
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers

    def batches(self, *, rank: int = 0, world_size: int = 1, limit: int | None = None) -> Iterator[Any]:
        """The batches of one process, the first ``limit`` of them."""
        mine = range(rank, len(self.dataset), world_size)
        size = max(1, self.batch_size // world_size)
        keys = [list(mine[start : start + size]) for start in range(0, len(mine), size)][:limit]
        for batch, problems in _batches(self.dataset, keys, self.num_workers):
            if problems:
                raise ValueError(problems[0])
            yield batch


class _Batches(Dataset):
    """Batches of a data set, each under the list of its items' keys, and what was wrong with items.

    An item is copied into its batch as soon as it is read, and its memory serves the next one: a tenth faster than
    keeping all of them until they are joined. A worker's batch lies in memory that the training process can read.

    Errors are told and not raised: out of a worker they would come with the tracebacks of two processes.

    Args:
        dataset: of the items.
        tries: items after a bad one that are tried in its place. If none can be read, there is no batch.
    """

    def __init__(self, dataset: Dataset, tries: int):
        self.dataset = dataset
        self.tries = tries

    def __getitem__(self, keys: list) -> tuple[Any | None, list[str]]:
        problems: list[str] = []
        items = (self._item(key, problems) for key in keys)
        try:
            collate = getattr(self.dataset, "collate", None)
            return (_stack(items, len(keys)) if collate is None else collate(list(items))), problems
        except _Unreadable:
            return None, problems
        except MemoryError as error:  # of crops of a length that cannot be
            return None, [*problems, f"there is not enough memory: {describe(error)}"]

    def _item(self, key: Any, problems: list[str]) -> Any:
        for further in range(self.tries + 1):
            try:
                return self.dataset[(key[0], (key[1] + further) % len(self.dataset)) if further else key]
            except USER_ERRORS as error:
                problem = describe(error)
                if further == 0:
                    problems.append(problem)
        raise _Unreadable


class _Unreadable(Exception):
    """Neither an item nor those after it can be read."""


def _stack(items: Iterator[dict[str, torch.Tensor]], size: int) -> dict[str, torch.Tensor]:
    batch: dict[str, torch.Tensor] = {}
    for row, item in enumerate(items):
        for name, x in item.items():
            if row == 0:
                batch[name] = torch.empty(size, *x.shape, dtype=x.dtype)
                if get_worker_info() is not None:
                    batch[name].share_memory_()
            batch[name][row] = x
    return batch


def _check_workers(num_workers: int) -> None:
    if num_workers < 0:
        raise ValueError(f"num_workers must not be negative, got {num_workers}")


def _loader(dataset: Dataset, keys: Sequence[list], num_workers: int, *, tries: int = 0) -> DataLoader:
    return DataLoader(
        _Batches(dataset, tries),
        batch_size=None,
        sampler=keys,
        num_workers=min(num_workers, len(keys)),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=functools.partial(_obey_the_parent, _ending()),
    )


def _batches(dataset: Dataset, keys: Sequence[list], num_workers: int, *, tries: int = 0) -> Iterator[Any]:
    """The batches under these keys, and what was wrong with items.

    A loader that is killed is told here, where the next batch is waited for. By itself, torch raises its error out of a
    signal handler, in the middle of whatever is done then: of an optimizer's step too.

    Raises:
        ChildProcessError: a loader was killed, or has died.
    """
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(_loader(dataset, keys, num_workers, tries=tries))
    if signal.getsignal(signal.SIGCHLD) is not before:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (RuntimeError, EOFError, ConnectionError) as error:
            if not (num_workers and _is_of_a_killed_loader(error)):
                raise
            raise ChildProcessError(
                f"a loader process was killed, perhaps for its memory, of which fewer num_workers take less ({error})"
            ) from error
        yield batch


def _is_of_a_killed_loader(error: Exception) -> bool:
    """Whether torch found a loader gone, or nobody at the other end of a batch that it had left to be fetched."""
    said = str(error)
    if said.startswith("Caught "):  # in a loader that is alive, of a data set
        return False
    return not isinstance(error, RuntimeError) or "DataLoader worker" in said


@functools.cache
def _ending() -> Event:
    """Set when this process ends, just before multiprocessing sends SIGTERM to workers that are left, and waits."""
    event = multiprocessing.Event()
    Finalize(None, event.set, exitpriority=0)
    return event


def _obey_the_parent(ending: Event, worker: int) -> None:
    """Ctrl-C, and a scheduler's SIGTERM, reach the whole process group; the training process ends its workers.

    One that ends by an error in mid-epoch does so by SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if ending.is_set() else None)
