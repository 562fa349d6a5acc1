"""Training steps of any task, as the trainer does them, and the plain way."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

from benchmarks import floor
from benchmarks.gpu.bench import Bench
from benchmarks.measure import Row, against
from utils.descent import Descent
from utils.progress import Averages
from utils.task import Batch, Task


def our_step(task: Task, batch: Batch, precision: str, device: torch.device) -> Callable[[], Averages]:
    """What the trainer does in a step; returns what the step told."""
    descent, steps = Descent(task.optimizers(), device, precision=precision), itertools.count()
    task.train()

    def step() -> Averages:
        averages = Averages()
        task.begin_step(next(steps))
        descent.step(task, task.networks(), iter([batch]), averages)
        task.end_step(lambda x: x)
        return averages

    return step


def plain_step(task: Task, batch: Batch) -> Callable[[], list[float]]:
    """The same losses in fp32, torch's plain AdamW, and each loss looked at as it comes."""
    optimizers = {
        name: torch.optim.AdamW([p for group in made.param_groups for p in group["params"]], lr=1e-4)
        for name, made in task.optimizers().items()
    }
    task.train()

    def step() -> list[float]:
        seen = []
        for objective in task.objectives(batch, task.networks()):
            optimizers[objective.optimizer].zero_grad()
            (objective.loss / objective.count).backward()
            optimizers[objective.optimizer].step()
            seen.append(objective.loss.item())
        task.end_step(lambda x: x)
        return seen

    return step


def training_rows(bench: Bench, system: str, task: Task, batch: Batch) -> None:
    """Lines of a training step against the plain one in fp32."""
    items, samples = batch["wav"].shape
    plain = plain_step(task, batch)
    for precision in bench.precisions[:3] if bench.is_cuda else ["fp32"]:
        with bench.apart(system, f"training step, {precision}"):
            step = our_step(task, batch, precision, bench.device)
            seconds = against(plain, step, device=bench.device, repeats=bench.repeats)
            plain, operations = seconds[0], floor.counted_with_gradients(step)
            work, audio = (
                f"training step, batch {items} x {samples / 16000:.3g} s, {precision}",
                items * samples / 16000,
            )
            bench.speed(system, Row(work, *seconds, operations, precision=precision, audio=audio), step)
