"""From data sets to batches: sharded over processes, and resumable at any step."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sized
from multiprocessing.synchronize import Event
from multiprocessing.util import Finalize
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info


class TrainBatches:
    """Batches of a data set whose items are functions of (epoch, index).

    ``batch_size`` items make a step, over all processes and accumulated micro-batches: step ``s`` has the items
    ``s * batch_size`` to ``(s + 1) * batch_size`` of its epoch, whoever computes them. The rest of an epoch that does
    not fill a step is left out, so that all processes take equally many steps.

    Args:
        dataset: has a length, and items under (epoch, index): tensors by name, of the same shapes in all items.
        batch_size: items of a step in all.
        num_workers: loader processes of each training process; 0 loads in the training process itself.
    """

    def __init__(self, *, dataset: Dataset, batch_size: int, num_workers: int = 0):
        if batch_size < 1 or len(dataset) < batch_size:
            raise ValueError(f"an epoch of {len(dataset)} items has no step of {batch_size}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers

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

    def epoch(
        self, epoch: int, *, first_step: int = 0, rank: int = 0, world_size: int = 1, accumulate: int = 1
    ) -> Iterator[Any]:
        """The micro-batches of one process, from ``first_step`` to the end of the epoch, ``accumulate`` for a step."""
        size = self.micro_batch_size(world_size=world_size, accumulate=accumulate)
        parts = range(first_step * accumulate, self.steps_per_epoch * accumulate)
        starts = [(part * world_size + rank) * size for part in parts]
        keys = [[(epoch, start + i) for i in range(size)] for start in starts]
        return iter(_loader(self.dataset, keys, self.num_workers))


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
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers

    def batches(self, *, rank: int = 0, world_size: int = 1, limit: int | None = None) -> Iterator[Any]:
        """The batches of one process, the first ``limit`` of them."""
        mine = range(rank, len(self.dataset), world_size)
        size = max(1, self.batch_size // world_size)
        keys = [list(mine[start : start + size]) for start in range(0, len(mine), size)][:limit]
        return iter(_loader(self.dataset, keys, self.num_workers))


class _Batches(Dataset):
    """Batches of a data set, each under the list of its items' keys.

    An item is copied into its batch as soon as it is read, and its memory serves the next one: a tenth faster than
    keeping all of them until they are joined. A worker's batch lies in memory that the training process can read.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitem__(self, keys: list) -> dict[str, torch.Tensor]:
        batch: dict[str, torch.Tensor] = {}
        for row, key in enumerate(keys):
            for name, x in self.dataset[key].items():
                if row == 0:
                    batch[name] = torch.empty(len(keys), *x.shape, dtype=x.dtype)
                    if get_worker_info() is not None:
                        batch[name].share_memory_()
                batch[name][row] = x
        return batch


def _loader(dataset: Dataset, keys: Sized, num_workers: int) -> DataLoader:
    return DataLoader(
        _Batches(dataset),
        batch_size=None,
        sampler=keys,
        num_workers=min(num_workers, len(keys)),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=functools.partial(_obey_the_parent, _ending()),
    )


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
