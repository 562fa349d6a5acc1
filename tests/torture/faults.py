"""Faults that are made inside a program: each function is called in its process before it begins."""

from __future__ import annotations

import time
from datetime import timedelta

import torch

AT = 2  # the step, from 0, in which a fault happens


def overflow() -> None:
    """In one step the first layer of each network that gives floats gives infinity, as fp16 does beyond 65,504."""
    from utils import trainer

    descend = trainer._Run.descend

    def faulty(run, micro_batches, averages):
        if run.progress.step != AT:
            return descend(run, micro_batches, averages)
        hooks = []
        for network in run.task.networks().values():
            leaves = [part for part in network.modules() if not list(part.children())]
            hooks += [part.register_forward_hook(_infinite) for part in leaves[:3]]
        try:
            return descend(run, micro_batches, averages)
        finally:
            for hook in hooks:
                hook.remove()

    trainer._Run.descend = faulty


def _infinite(module, inputs, output):
    if isinstance(output, torch.Tensor) and output.is_floating_point():
        return output * float("inf")
    return None


def nan_batch() -> None:
    """In one step all floats of the batch are NaN."""
    _change_batch(lambda x: x * float("nan"))


def silence() -> None:
    """In one step all floats of the batch are 0."""
    _change_batch(torch.zeros_like)


def exploding() -> None:
    """In one step all floats of the batch are 1e30 times themselves."""
    _change_batch(lambda x: x * 1e30)


def _change_batch(change) -> None:
    from utils import trainer

    descend = trainer._Run.descend

    def faulty(run, micro_batches, averages):
        if run.progress.step == AT:
            micro_batches = [
                {k: change(v) if torch.is_tensor(v) and v.is_floating_point() else v for k, v in batch.items()}
                for batch in micro_batches
            ]
        return descend(run, micro_batches, averages)

    trainer._Run.descend = faulty


def slow_steps() -> None:
    """Each step takes a fifth of a second more, so that there is time to send a signal."""
    from utils import trainer

    descend = trainer._Run.descend

    def slow(run, micro_batches, averages):
        time.sleep(0.2)
        return descend(run, micro_batches, averages)

    trainer._Run.descend = slow


def hanging_loader() -> None:
    """In the second process the loader gives nothing more from some step on, as a dead network disk does.

    Processes wait for each other ten seconds, and not half an hour.
    """
    from data import loading
    from utils import distributed

    distributed.TIMEOUT = timedelta(seconds=10)

    epoch = loading.TrainBatches.epoch

    def hangs(self, number, **more):
        for place, batch in enumerate(epoch(self, number, **more)):
            if place == AT and distributed.rank() == 1:
                time.sleep(10_000)
            yield batch

    loading.TrainBatches.epoch = hangs
