from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest
import torch
from torch.utils.data import Dataset

from data.loading import EvalBatches, TrainBatches
from tests.processes import descendants
from tests.toy import run


class Keys(Dataset):
    """Items that tell their own key."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key) -> dict[str, torch.Tensor]:
        return {"key": torch.tensor(key)}


def train_keys(batches: TrainBatches, epoch: int, **more) -> list[list]:
    return [batch["key"].tolist() for batch in batches.epoch(epoch, **more)]


@pytest.mark.parametrize("workers", [0, 2])
def test_processes_and_micro_batches_share_the_items_of_a_step(workers: int) -> None:
    batches = TrainBatches(dataset=Keys(26), batch_size=8, num_workers=workers)
    assert batches.steps_per_epoch == 3
    whole = train_keys(batches, 5)
    assert whole == [[[5, i] for i in range(8 * s, 8 * s + 8)] for s in range(3)]
    for world, accumulate in ((2, 1), (1, 2), (2, 2), (8, 1)):
        parts = [train_keys(batches, 5, rank=r, world_size=world, accumulate=accumulate) for r in range(world)]
        assert {len(part) for part in parts} == {3 * accumulate}
        for step in range(3):
            mine = range(step * accumulate, (step + 1) * accumulate)
            assert sorted(key for part in parts for i in mine for key in part[i]) == whole[step]


def test_an_epoch_can_start_in_its_middle() -> None:
    batches = TrainBatches(dataset=Keys(26), batch_size=8)
    assert train_keys(batches, 1, first_step=2) == train_keys(batches, 1)[2:]
    assert train_keys(batches, 1, first_step=3) == []
    halves = train_keys(batches, 1, accumulate=2)
    assert train_keys(batches, 1, first_step=1, accumulate=2) == halves[2:]


def test_batches_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(ValueError, match="epoch of 3 items has no step of 4"):
        TrainBatches(dataset=Keys(3), batch_size=4)
    with pytest.raises(ValueError, match="8 .in all. cannot be divided over 3 processes"):
        train_keys(TrainBatches(dataset=Keys(30), batch_size=8), 0, world_size=3)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_evaluation_covers_every_item_once(world: int) -> None:
    batches = EvalBatches(dataset=Keys(4), batch_size=4)
    seen = [k for r in range(world) for b in batches.batches(rank=r, world_size=world) for k in b["key"].tolist()]
    assert sorted(seen) == [0, 1, 2, 3]


def test_evaluation_can_be_limited() -> None:
    batches = EvalBatches(dataset=Keys(10), batch_size=2)
    assert len(list(batches.batches(limit=2))) == 2


class Speeches(Keys):
    """Items as the real data sets have them: several tensors."""

    def __getitem__(self, key) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(key[1])
        return {"mixture": torch.rand(30, generator=generator), "key": torch.tensor(key[1])}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_holds_its_items(workers: int) -> None:
    items = Speeches(12)
    for step, batch in enumerate(TrainBatches(dataset=items, batch_size=4, num_workers=workers).epoch(0)):
        want = torch.utils.data.default_collate([items[0, 4 * step + i] for i in range(4)])
        assert batch.keys() == want.keys()
        assert all(torch.equal(batch[k], want[k]) and batch[k].dtype == want[k].dtype for k in want)


@pytest.mark.slow
def test_an_error_in_mid_epoch_ends_the_process_and_its_workers() -> None:
    done = run(
        "-c",
        "from data.loading import TrainBatches\n"
        "from tests.data.test_loading import Keys\n"
        "batches = TrainBatches(dataset=Keys(1000), batch_size=4, num_workers=2).epoch(0)\n"
        "next(batches)\n"
        "raise RuntimeError('out of memory')\n",
        timeout=60,
    )
    assert done.returncode == 1 and done.stderr.endswith("RuntimeError: out of memory\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_go_on_when_their_process_group_is_told_to_end(number: int) -> None:
    batches = TrainBatches(dataset=Keys(400), batch_size=4, num_workers=2).epoch(0)
    next(batches), next(batches)  # one of each worker
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, number)
    assert len(list(batches)) == 98


def test_loader_processes_below_none_are_refused() -> None:
    for make in (TrainBatches, EvalBatches):
        with pytest.raises(ValueError, match="num_workers must not be negative, got -1"):
            make(dataset=[1, 2], batch_size=1, num_workers=-1)


class Slow(Dataset):
    """Items that take a while."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, key: object) -> dict[str, torch.Tensor]:
        time.sleep(0.05)
        return {"x": torch.zeros(1)}


class Broken(Slow):
    """A fault of the data set's own."""

    def __getitem__(self, key: object) -> dict[str, torch.Tensor]:
        raise self.error


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError("a fault"), KeyError("a fault")])
def test_a_data_sets_own_fault_is_not_taken_for_a_killed_loader(error: Exception) -> None:
    """torch says of it, too, that it was in a DataLoader worker."""
    dataset = Broken()
    dataset.error = error
    for num_workers in (0, 1):
        with pytest.raises(type(error), match="a fault"):
            list(TrainBatches(dataset=dataset, batch_size=2, num_workers=num_workers).epoch(0))


class Large(Slow):
    """Items that are fetched from the loader when they are asked for."""

    def __getitem__(self, key: object) -> dict[str, torch.Tensor]:
        return {"x": torch.zeros(100_000)}


@pytest.mark.slow
def test_batches_that_a_killed_loader_left_to_be_fetched_are_told_too() -> None:
    """The next one ended in 'Connection reset by peer', or in a traceback."""
    before = set(descendants(os.getpid()))
    batches = TrainBatches(dataset=Large(), batch_size=2, num_workers=1).epoch(0)
    next(batches)
    (worker,) = set(descendants(os.getpid())) - before
    time.sleep(0.5)  # others are ready
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match="a loader process was killed"):
        list(batches)


@pytest.mark.slow
def test_a_killed_loader_is_told_where_the_next_batch_is_waited_for() -> None:
    """torch raised out of a signal handler, also in the middle of an optimizer's step, and all was lost."""
    before = set(descendants(os.getpid()))
    batches = TrainBatches(dataset=Slow(), batch_size=2, num_workers=1).epoch(0)
    next(batches)
    (worker,) = set(descendants(os.getpid())) - before
    os.kill(worker, signal.SIGKILL)
    time.sleep(0.5)  # nothing is raised here
    with pytest.raises(ChildProcessError, match="a loader process was killed, perhaps for its memory"):
        list(batches)
