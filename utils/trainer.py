"""The training loop: iterate, descend, log, evaluate, save. Everything about speech is in the task."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from utils import checkpoint, distributed
from utils.descent import Descent, load_optimizer
from utils.logging import NoLog, RunLog
from utils.precision import autocast, require_known
from utils.progress import Averages, Progress, StopRequest
from utils.schedule import Schedule
from utils.seed import seed_everything
from utils.task import Batch, Task

log = logging.getLogger(__name__)


class TrainData(Protocol):
    steps_per_epoch: int

    def micro_batch_size(self, *, world_size: int, accumulate: int) -> int:
        """Items of one forward pass; a ValueError where a step cannot be divided so."""
        ...

    def epoch(self, epoch: int, *, first_step: int, rank: int, world_size: int, accumulate: int) -> Iterator[Batch]: ...


class EvalData(Protocol):
    def batches(self, *, rank: int, world_size: int, limit: int | None = None) -> Iterator[Batch]: ...


class Trainer:
    """Trains a task for a number of epochs, and can be stopped and continued at any step.

    All that is random in a step follows from (seed, step, process), and all that is in an item of data from (seed,
    epoch, index). So a run that was stopped, even in mid-epoch, ends with the same weights as one that was not.

    Args:
        epochs: how many.
        seed: of what is random in a step, dropout for example.
        precision: ``fp32``, ``tf32`` (which differs on CUDA only), or ``bf16`` or ``fp16`` for autocast in the forward
            pass (fp16 with loss scaling).
        accumulate: micro-batches of a step.
        clip_norm: the gradient's norm is cut to this; None leaves it.
        schedule: of the learning rates.
        best_metric: validation metric, lower is better, that the schedule and ``best.pth`` go by.
        log_interval: steps between lines in the log; only then does the host wait for the device.
        save_interval: steps between checkpoints within an epoch; None saves at the end of each epoch only.
        first_evaluation: batches of validation before the first step, to find faults early; 0 for none.
        max_skipped: steps in a row with a gradient that is not finite, before it is an error. It is seen when the next
            line is logged, or before a checkpoint is written.
    """

    def __init__(
        self,
        *,
        epochs: int,
        seed: int,
        precision: str = "fp32",
        accumulate: int = 1,
        clip_norm: float | None = None,
        schedule: Schedule | None = None,
        best_metric: str = "loss",
        log_interval: int = 5,
        save_interval: int | None = None,
        first_evaluation: int = 2,
        max_skipped: int = 20,
    ):
        require_known(precision)
        if accumulate < 1 or log_interval < 1 or (save_interval is not None and save_interval < 1):
            raise ValueError(
                "accumulate, log_interval and save_interval must be above 0, "
                f"got {accumulate}, {log_interval} and {save_interval}"
            )
        self.epochs = epochs
        self.seed = seed
        self.precision = precision
        self.accumulate = accumulate
        self.clip_norm = clip_norm
        self.schedule = schedule
        self.best_metric = best_metric
        self.log_interval = log_interval
        self.save_interval = save_interval
        self.first_evaluation = first_evaluation
        self.max_skipped = max_skipped

    def fit(
        self,
        task: Task,
        train_data: TrainData,
        valid_data: EvalData,
        *,
        device: torch.device,
        log_path: Path,
        ckpt_path: Path,
        init: Path | None = None,
        recipe: str = "",
        stop: StopRequest | None = None,
    ) -> bool:
        """Train, or continue, until the last epoch or until a stop is requested.

        Args:
            log_path: folder of the logs.
            ckpt_path: folder of ``last.pth``, from which the run continues, and ``best.pth``.
            init: checkpoint from whose weights a new run starts, instead of random ones; one that continues does not
                read it.
            recipe: text that is kept in the checkpoints.

        Returns:
            True if the training is complete, False if it was stopped.

        Raises:
            FloatingPointError: ``max_skipped`` steps in a row had a gradient that was not finite.
            ValueError: the checkpoint does not fit the task.
        """
        run = _Run(self, task.to(device), train_data, valid_data, device, ckpt_path, init, recipe, stop)
        run.prepare()
        run.restore()
        run.log = RunLog(log_path, first_step=run.progress.step) if distributed.is_main() else NoLog()
        try:
            return run.to_the_end()
        finally:
            run.log.close()


class _Run:
    """One call of ``Trainer.fit``: its objects and its state."""

    def __init__(self, settings, task, train_data, valid_data, device, ckpt_path, init, recipe, stop):
        self.settings: Trainer = settings
        self.task: Task = task
        self.train_data: TrainData = train_data
        self.valid_data: EvalData = valid_data
        self.device: torch.device = device
        self.ckpt_path: Path = ckpt_path
        self.init: Path | None = init
        self.recipe: str = recipe
        self.stop: StopRequest = stop or StopRequest()
        self.log: RunLog | NoLog = NoLog()
        # Refuse now what would only fail in the first step.
        train_data.micro_batch_size(world_size=distributed.world_size(), accumulate=settings.accumulate)
        self.progress = Progress()
        self.optimizers = task.optimizers()
        self.initial_rates = {name: [g["lr"] for g in o.param_groups] for name, o in self.optimizers.items()}
        self.descent = Descent(
            self.optimizers,
            device,
            precision=settings.precision,
            accumulate=settings.accumulate,
            clip_norm=settings.clip_norm,
        )
        # Read once: it costs a pass over all frozen weights.
        self.digests = {name: part.digest() for name, part in task.frozen().items()}

    # -- state ---------------------------------------------------------------------------------------------------

    def sources(self) -> dict[str, checkpoint.Stateful]:
        """What a checkpoint holds beside the trained tensors."""
        named = {f"optimizer.{name}": optimizer for name, optimizer in self.optimizers.items()}
        named |= {"scaler": self.descent.scaler, "progress": self.progress}
        return named | ({"schedule": self.settings.schedule} if self.settings.schedule else {})

    def content(self) -> dict[str, Any]:
        return {
            "model": checkpoint.flatten({n: m.state_dict() for n, m in self.task.networks().items()}),
            "frozen": self.digests,
            "settings": self.task.settings(),
            "recipe": self.recipe,
            "steps_per_epoch": self.train_data.steps_per_epoch,
        }

    def save_last(self) -> None:
        self.count_skipped()
        if distributed.is_main():
            state = {name: source.state_dict() for name, source in self.sources().items()}
            checkpoint.save(self.ckpt_path / "last.pth", {**self.content(), "state": state})

    def save_best(self) -> None:
        if distributed.is_main():
            content = {**self.content(), "progress": self.progress.state_dict()}
            checkpoint.save(self.ckpt_path / "best.pth", content)

    def prepare(self) -> None:
        """Let the task see training data, the same in all processes, before it trains or continues."""

        def batches() -> Iterator[Batch]:
            for batch in self.train_data.epoch(0, first_step=0, rank=0, world_size=1, accumulate=1):
                yield self.descent.to_device(batch)

        seed_everything(self.settings.seed)
        self.task.prepare(batches())

    def restore(self) -> None:
        path = self.ckpt_path / "last.pth"
        # Every process looks before any can write.
        found = path.exists()
        distributed.barrier()
        if found:
            saved = checkpoint.load(path)
            checkpoint.load_tensors(self.task.networks(), saved["model"], path)
            checkpoint.require_same(saved, frozen=self.digests, settings=self.task.settings(), source=path)
            if missing := self.sources().keys() - saved["state"].keys():
                raise ValueError(f"{path} holds no state of {', '.join(sorted(missing))}: it is from another recipe")
            for name, source in self.sources().items():
                state = saved["state"][name]
                if isinstance(source, torch.optim.Optimizer):
                    load_optimizer(source, state)
                elif state:  # a loss scaler that was not used saves nothing
                    source.load_state_dict(state)
            if self.progress.step_in_epoch and saved["steps_per_epoch"] != self.train_data.steps_per_epoch:
                raise ValueError(
                    f"{path} is from the middle of an epoch of {saved['steps_per_epoch']} steps, the recipe now gives "
                    f"{self.train_data.steps_per_epoch}: continue with the same batch_size and data, or in a new folder"
                )
            log.info("continuing from %s: %d epochs and %d steps done", path, self.progress.epoch, self.progress.step)
        elif self.init:
            self.start_from(self.init)
        distributed.barrier()
        self.networks = {n: distributed.parallel(m, self.device) for n, m in self.task.networks().items()}

    def start_from(self, path: Path) -> None:
        """Take over the weights of the networks that a checkpoint holds; the others keep their initial ones."""
        saved, networks = checkpoint.load(path), self.task.networks()
        tensors = {name: x for name, x in saved["model"].items() if name.split(".")[0] in networks}
        held = {name: networks[name] for name in networks if any(key.startswith(f"{name}.") for key in tensors)}
        if not held:
            raise ValueError(f"{path} holds none of this recipe's networks ({', '.join(networks)})")
        checkpoint.require_same(saved, frozen=self.digests, settings=self.task.settings(), source=path)
        checkpoint.load_tensors(held, tensors, path)
        log.info("starting from the weights of %s in %s", ", ".join(held), path)

    def apply_rates(self) -> None:
        scale = self.settings.schedule.scale(self.progress.step) if self.settings.schedule else 1.0
        for name, optimizer in self.optimizers.items():
            for group, initial in zip(optimizer.param_groups, self.initial_rates[name], strict=True):
                group["lr"] = initial * scale

    # -- the loop ------------------------------------------------------------------------------------------------

    def to_the_end(self) -> bool:
        settings, progress = self.settings, self.progress
        if progress.step == 0 and settings.first_evaluation:
            self.evaluate(limit=settings.first_evaluation, kind="first evaluation")
        while progress.epoch < settings.epochs:
            if not self.train_epoch():
                self.save_last()
                distributed.barrier()  # a launcher may end all processes as soon as one has left
                return False
            metric = self.evaluate(limit=None, kind="valid")[settings.best_metric]
            if settings.schedule:
                settings.schedule.end_epoch(metric)
            progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
            if metric < progress.best:
                progress.best = metric
                self.save_best()
            self.save_last()
        best = (settings.best_metric, progress.best, self.ckpt_path / "best.pth")
        log.info("all %d epochs are done; the best %s, %.4g, is in %s", settings.epochs, *best)
        return True

    def train_epoch(self) -> bool:
        """The rest of the epoch; False if a stop was requested in it."""
        progress, settings = self.progress, self.settings
        total = self.train_data.steps_per_epoch
        batches = self.train_data.epoch(
            progress.epoch,
            first_step=progress.step_in_epoch,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            accumulate=settings.accumulate,
        )
        averages, items, since = Averages(), 0, time.perf_counter()
        title = f"epoch {progress.epoch + 1}/{settings.epochs}"
        bar = tqdm(total=total, initial=progress.step_in_epoch, desc=title, disable=not distributed.is_main())
        self.task.train()
        with bar:
            while progress.step_in_epoch < total:
                items += self.train_step(batches, averages)
                progress.step += 1
                progress.step_in_epoch += 1
                bar.update()
                at_interval = progress.step % settings.log_interval == 0 or progress.step_in_epoch == total
                if at_interval:
                    self.count_skipped()
                    values = averages.pop()
                    now = time.perf_counter()
                    values["items_per_second"] = items * distributed.world_size() / (now - since)
                    values |= {f"lr_{name}": o.param_groups[0]["lr"] for name, o in self.optimizers.items()}
                    values["skipped"] = progress.skipped
                    self.log.metrics("train", values, step=progress.step, epoch=progress.epoch + 1)
                    bar.set_postfix({k: f"{v:.4g}" for k, v in values.items() if k in ("loss", settings.best_metric)})
                    items, since = 0, now
                if self.stop_agreed(at_interval):
                    return False
                if settings.save_interval and progress.step % settings.save_interval == 0:
                    self.save_last()
        return True

    def train_step(self, batches: Iterator[Batch], averages: Averages) -> int:
        """One step of every optimizer; returns the items that this process contributed."""
        seed_everything(self.settings.seed, self.progress.step, distributed.rank())
        self.apply_rates()
        return self.descent.step(self.task, self.networks, batches, averages)

    def count_skipped(self) -> None:
        """Read from the device how many steps were skipped; all processes find the same."""
        for name, (new, longest) in self.descent.skipped.pop().items():
            self.progress.skipped += new
            if longest >= self.settings.max_skipped:
                raise FloatingPointError(
                    f"the gradient of {name} was not finite in {longest} steps in a row, as seen at step "
                    f"{self.progress.step}: lower the learning rate, clip the gradient, or use fp32 or bf16"
                )

    @torch.no_grad()
    def evaluate(self, *, limit: int | None, kind: str) -> dict[str, float]:
        """Validation metrics over all processes, each item counted once."""
        self.task.eval()
        sums: dict[str, torch.Tensor] = {}
        counts: dict[str, int] = defaultdict(int)
        batches = self.valid_data.batches(rank=distributed.rank(), world_size=distributed.world_size(), limit=limit)
        for number, batch in enumerate(tqdm(batches, desc=kind, leave=False, disable=not distributed.is_main())):
            batch = self.descent.to_device(batch)
            with autocast(self.device, self.settings.precision):
                for name, (total, count) in self.task.evaluate(batch).items():
                    sums[name] = sums.get(name, 0) + total.double()
                    counts[name] += count
                if number == 0 and distributed.is_main():
                    self.log.media(self.task.media(batch), step=self.progress.step)
        values = self.average(sums, counts)
        if self.settings.best_metric not in values:
            raise ValueError(f"best_metric must be one of {', '.join(values)}, got {self.settings.best_metric!r}")
        self.log.metrics(kind, values, step=self.progress.step, epoch=self.progress.epoch + 1)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info("epoch %d, step %d, %s: %s", self.progress.epoch + 1, self.progress.step, kind, shown)
        return values

    def average(self, sums: dict[str, torch.Tensor], counts: dict[str, int]) -> dict[str, float]:
        # A process may have had no item at all, so the names come from the one that had the first.
        names = distributed.from_main(list(sums))
        if not names:
            raise ValueError("the validation set is empty")
        pairs = [(float(sums.get(n, 0.0)), float(counts.get(n, 0))) for n in names]
        totals = distributed.sum_over_processes(torch.tensor(pairs, dtype=torch.float64, device=self.device))
        # A metric that could be told of no item is not a number.
        return {
            n: total / count if count else float("nan")
            for n, (total, count) in zip(names, totals.tolist(), strict=True)
        }

    def stop_agreed(self, at_interval: bool) -> bool:
        """Whether to stop now: all processes or none, and they only talk about it where they log anyway."""
        if distributed.world_size() == 1:
            return self.stop.requested
        if not at_interval:
            return False
        return bool(distributed.sum_over_processes(torch.tensor(float(self.stop.requested), device=self.device)))
