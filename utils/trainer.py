"""The training loop: iterate, descend, log, evaluate, save. Everything about speech is in the task."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import torch
from tqdm import tqdm

from utils import distributed
from utils.descent import Descent
from utils.errors import USER_ERRORS, Diverged, describe
from utils.folder_lock import folder_lock
from utils.logging import NoLog, RunLog
from utils.precision import autocast, require_known, resolve_precision
from utils.progress import Averages, StopRequest
from utils.run_state import RunState
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
        schedule: of the learning rates of all optimizers, or a mapping with one for each of some optimizers.
        best_metric: validation metric, lower is better, that the schedule and ``best.pth`` go by.
        log_interval: steps between lines in the log; only then does the host wait for the device.
        save_interval: steps between checkpoints within an epoch; None saves at the end of each epoch only.
        first_evaluation: batches of validation before the first step, to find faults early; 0 for none.
        max_skipped: steps in a row with a gradient that is not finite, before it is an error. It is seen when the next
            line is logged, or before a checkpoint is written.
        early_stop: epochs in a row without a better ``best_metric``, after which the training ends; None: never.
    """

    def __init__(
        self,
        *,
        epochs: int,
        seed: int,
        precision: str = "fp32",
        accumulate: int = 1,
        clip_norm: float | None = None,
        schedule: Schedule | Mapping[str, Schedule] | None = None,
        best_metric: str = "loss",
        log_interval: int = 5,
        save_interval: int | None = None,
        first_evaluation: int = 2,
        max_skipped: int = 20,
        early_stop: int | None = None,
    ):
        require_known(precision)
        if accumulate < 1 or log_interval < 1 or (save_interval is not None and save_interval < 1):
            raise ValueError(
                "accumulate, log_interval and save_interval must be above 0, "
                f"got {accumulate}, {log_interval} and {save_interval}"
            )
        if epochs < 1:
            raise ValueError(f"the epochs must be above 0, got {epochs}")
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, or null, got {clip_norm}")
        if early_stop is not None and early_stop < 1:
            raise ValueError(f"early_stop must be above 0, or null, got {early_stop}")
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
        self.early_stop = early_stop

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

        A step whose data cannot be read, or a validation, ends the training, and what was trained is saved.

        Args:
            log_path: folder of the logs.
            ckpt_path: folder of ``last.pth``, from which the run continues, and ``best.pth``.
            init: checkpoint from whose weights a new run starts, instead of random ones; one that continues does not
                read it.
            recipe: text that is kept in the checkpoints.

        Returns:
            True if the training is complete, False if it was stopped.

        Raises:
            Diverged: ``max_skipped`` steps in a row had a gradient that was not finite, or the validation's
                ``best_metric`` was not.
            ValueError: the checkpoint does not fit the task, its folder cannot be written, or another process uses it.
        """
        with _held(ckpt_path):
            run = _Run(self, task.to(device), train_data, valid_data, device, ckpt_path, recipe, stop)
            run.begin(init)
            run.log = RunLog(log_path, first_step=run.progress.step) if distributed.is_main() else NoLog()
            try:
                done = run.to_the_end()
            except BaseException:
                with contextlib.suppress(OSError):  # of which the log is full that is told already
                    run.log.close()
                raise
            run.log.close()
            return done


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The checkpoint folder, for this run alone; all processes are refused alike."""
    with contextlib.ExitStack() as stack:
        problem = None
        if distributed.is_main():
            try:
                stack.enter_context(folder_lock(folder))
            except ValueError as error:
                problem = describe(error)
        if problem := distributed.from_main(problem):
            raise ValueError(problem)
        yield


class _Stopped(Exception):
    """All processes have agreed to stop."""


class _Run:
    """One call of ``Trainer.fit``: its objects, and the loop."""

    def __init__(self, settings, task, train_data, valid_data, device, ckpt_path, recipe, stop):
        self.settings: Trainer = settings
        self.task: Task = task
        self.train_data: TrainData = train_data
        self.valid_data: EvalData = valid_data
        self.device: torch.device = device
        self.ckpt_path: Path = ckpt_path
        self.stop: StopRequest = stop or StopRequest()
        self.log: RunLog | NoLog = NoLog()
        self.told: set[str] = set()  # warnings of the task
        self.unlogged: OSError | None = None  # why the log cannot be written, until all processes hear of it
        # Refuse now what would only fail in the first step.
        train_data.micro_batch_size(world_size=distributed.world_size(), accumulate=settings.accumulate)
        self.descent = Descent(
            task.optimizers(),
            device,
            precision=settings.precision,
            accumulate=settings.accumulate,
            clip_norm=settings.clip_norm,
        )
        self.state = RunState(
            task,
            self.descent.optimizers,
            self.descent.scaler,
            settings.schedule,
            recipe=recipe,
            steps_per_epoch=train_data.steps_per_epoch,
            precision=resolve_precision(settings.precision, device),
        )
        self.progress = self.state.progress
        for schedule in self.state.schedules.values():
            patience = getattr(schedule, "patience", None)
            if settings.early_stop and patience is not None and settings.early_stop <= patience:
                log.warning(
                    "early_stop (%d) is not above the schedule's patience (%d): the rate never falls before the end",
                    settings.early_stop,
                    patience,
                )
                break

    def begin(self, init: Path | None) -> None:
        """Load what there is to continue or to start from, and let the task see training data.

        The batches are the same in all processes.
        """

        def batches() -> Iterator[Batch]:
            for batch in self.train_data.epoch(0, first_step=0, rank=0, world_size=1, accumulate=1):
                yield self.descent.to_device(batch)

        loaded = self.state.begin(self.ckpt_path / "last.pth", init)
        seed_everything(self.settings.seed)
        self.task.prepare(batches(), loaded=loaded)
        distributed.begin_alike(self.task.networks())

    def save_last(self) -> None:
        self.count_skipped()
        self.state.save_last(self.ckpt_path / "last.pth")

    # -- the loop ------------------------------------------------------------------------------------------------

    def to_the_end(self) -> bool:
        try:
            while not self.is_done():
                self.epoch()
        except _Stopped:
            log.info("a stop was asked for: saving after %d steps", self.progress.step)
            self.save_last()
            distributed.barrier()  # a launcher may end all processes as soon as one has left
            return False
        settings, progress = self.settings, self.progress
        if progress.epoch < settings.epochs:
            log.info("stopped early: no better %s in %d epochs", settings.best_metric, progress.since_best)
        if self.unlogged:
            raise self.unlogged
        best = (settings.best_metric, progress.best, self.ckpt_path / "best.pth")
        log.info("all %d epochs are done; the best %s, %.4g, is in %s", progress.epoch, *best)
        return True

    def is_done(self) -> bool:
        progress, patience = self.progress, self.settings.early_stop
        return progress.epoch >= self.settings.epochs or (patience is not None and progress.since_best >= patience)

    def epoch(self) -> None:
        """The rest of an epoch, and its validation."""
        settings, progress = self.settings, self.progress
        self.task.begin_epoch(progress.epoch)
        if progress.step == 0 and settings.first_evaluation:
            self.evaluate(limit=settings.first_evaluation, kind="first evaluation")
        self.train_epoch()
        metric = self.evaluate(limit=None, kind="valid")[settings.best_metric]
        self.state.end_epoch(metric)
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        progress.since_best += 1
        if metric < progress.best:
            progress.best, progress.since_best = metric, 0
            self.state.save_best(self.ckpt_path / "best.pth")
        self.save_last()

    def train_epoch(self) -> None:
        """The steps of the epoch that are left."""
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
                if progress.step % settings.log_interval == 0 or progress.step_in_epoch == total:
                    self.count_skipped()
                    values = averages.pop()
                    now = time.perf_counter()
                    values["items_per_second"] = items * distributed.world_size() / (now - since)
                    values |= {f"lr_{name}": o.param_groups[0]["lr"] for name, o in self.descent.optimizers.items()}
                    values["skipped"] = progress.skipped
                    self.write_log("train", values)
                    bar.set_postfix({k: f"{v:.4g}" for k, v in values.items() if k in ("loss", settings.best_metric)})
                    items, since = 0, now
                if settings.save_interval and progress.step % settings.save_interval == 0:
                    self.save_last()

    def train_step(self, batches: Iterator[Batch], averages: Averages) -> int:
        """One step of every objective; returns the items that this process contributed."""
        micro_batches, error = [], None
        try:
            for _ in range(self.settings.accumulate):
                micro_batches.append(next(batches))
        except USER_ERRORS as problem:
            error = problem
        self.agree(error or self.unlogged)
        step = self.progress.step
        seed_everything(self.settings.seed, step, distributed.rank())
        self.state.apply_rates()
        self.task.begin_step(step)
        self.descent.skipped.at(self.progress.epoch, self.progress.step_in_epoch)
        items = self.descend(micro_batches, averages)
        distributed.average_running_statistics(self.task.networks())
        self.task.end_step(distributed.sum_over_processes)
        return items

    def descend(self, micro_batches: list[Batch], averages: Averages) -> int:
        """A step; raises a MemoryError that says what would fit, where the GPU's memory does not hold it."""
        try:
            return self.descent.step(self.task, self.task.networks(), iter(micro_batches), averages)
        except torch.OutOfMemoryError as error:
            said = describe(error).split(". ")[0]
        # Here, and not where the error is handled: it holds what was computed so far.
        averages.sums.clear(), averages.counts.clear()
        items = len(next(iter(micro_batches[0].values())))
        fitting = self.descent.fitting(self.task, micro_batches[0])
        accumulate = self.settings.accumulate
        raise MemoryError(advice(items, fitting, accumulate=accumulate, said=said))

    def agree(self, error: Exception | None = None) -> None:
        """Go on together, or stop together, or fail together: one process alone would leave the others waiting.

        Raises:
            _Stopped: a process was asked to stop.
            ValueError: a process has an error; what was trained is saved.
        """
        failed, stopped = distributed.any_over_processes(error is not None, self.stop.due(self.progress.step))
        if failed:
            texts = distributed.gather(None if error is None else describe(error))
            if self.progress.step:
                self.save_last()
                log.info("what was trained is saved, %d steps; the same command continues", self.progress.step)
            raise error or ValueError(next(text for text in texts if text is not None))
        if stopped:
            raise _Stopped

    def write_log(self, kind: str, values: Mapping[str, float]) -> None:
        """A line in the log; if it cannot be written, the training ends before the next step, and is saved."""
        try:
            self.log.metrics(kind, values, step=self.progress.step, epoch=self.progress.epoch + 1)
        except OSError as error:
            self.unlogged = self.unlogged or error

    def write_media(self, batch: Batch) -> None:
        """The same for what is heard and seen of a batch."""
        media = self.task.media(batch)
        try:
            self.log.media(media, step=self.progress.step)
        except OSError as error:
            self.unlogged = self.unlogged or error

    def count_skipped(self) -> None:
        """Read from the device how many steps were skipped; all processes find the same."""
        found = self.descent.skipped.pop()
        if any(new for new, _ in found.values()):
            for epoch, step in self.descent.skipped.pop_places():
                what = f"step {step + 1} of epoch {epoch + 1} was not taken: its gradient was not finite"
                names = getattr(self.train_data, "names", lambda *_: [])(epoch, step)
                log.info("%s%s", what, f"; its items were {', '.join(names)}" if names else "")
        self.descent.skipped.places.clear()
        for name, (new, longest) in found.items():
            self.progress.skipped += new
            if longest >= self.settings.max_skipped:
                raise Diverged(
                    f"the gradient of {name} was not finite in {longest} steps in a row, as seen at step "
                    f"{self.progress.step}: lower the learning rate, clip the gradient, or use fp32 or bf16"
                )

    # -- validation ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, *, limit: int | None, kind: str) -> dict[str, float]:
        """Validation metrics over all processes, each item counted once."""
        self.task.eval()
        sums: dict[str, torch.Tensor] = {}
        counts: dict[str, int] = defaultdict(int)
        error = None
        try:
            batches = self.valid_data.batches(rank=distributed.rank(), world_size=distributed.world_size(), limit=limit)
            for number, batch in enumerate(tqdm(batches, desc=kind, leave=False, disable=not distributed.is_main())):
                if self.stop.due(self.progress.step):
                    break
                batch = self.descent.to_device(batch)
                with autocast(self.device, self.settings.precision):
                    for name, (total, count) in self.task.evaluate(batch).items():
                        sums[name] = sums.get(name, 0) + total.double()
                        counts[name] += count
                    if number == 0 and distributed.is_main():
                        self.write_media(batch)
        except USER_ERRORS as problem:
            error = problem
        except torch.OutOfMemoryError as problem:
            said = describe(problem).split(". ")[0]
            raise MemoryError(
                f"the GPU does not hold a batch of the {kind} ({said}): lower batch_size_eval"
            ) from problem
        self.agree(error)
        values, counts = self.average(sums, counts)
        best, step = self.settings.best_metric, self.progress.step
        if best not in values:
            raise ValueError(f"best_metric must be one of {', '.join(values)}, got {best!r}")
        self.write_log(kind, values)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info("epoch %d, step %d, %s: %s", self.progress.epoch + 1, step, kind, shown)
        for text in self.task.warnings(values) if distributed.is_main() else ():
            if text not in self.told:
                self.told.add(text)
                log.warning("%s", text)
        if not counts[best] and limit is None:
            raise ValueError(f"no item of the validation set tells {best}, which best.pth is chosen by")
        if counts[best] and not math.isfinite(values[best]):
            raise Diverged(
                f"the {best} of the {kind} at step {step} is {values[best]}: the training has diverged. last.pth is of "
                "before: lower the learning rate, clip the gradient, or use fp32 or bf16"
            )
        return values

    def average(
        self, sums: dict[str, torch.Tensor], counts: dict[str, int]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """The means over all processes, and of how many items; NaN of none."""
        # A process may have had no item, or none that tells a metric.
        names = list(dict.fromkeys(name for names in distributed.gather(list(sums)) for name in names))
        if not names:
            raise ValueError("the validation set is empty")
        pairs = [(float(sums.get(n, 0.0)), float(counts.get(n, 0))) for n in names]
        totals = torch.tensor(pairs, dtype=torch.float64, device=self.device)
        found = dict(zip(names, distributed.sum_over_processes(totals).tolist(), strict=True))
        means = {n: total / count if count else float("nan") for n, (total, count) in found.items()}
        return means, {n: count for n, (_, count) in found.items()}


def advice(items: int, fitting: int, *, accumulate: int, said: str) -> str:
    """What to do where a micro-batch of ``items`` does not fit into the memory, and one of ``fitting`` does."""
    begin = f"the GPU does not hold a micro-batch of {items} items ({said})"
    if not fitting:
        return f"{begin}, nor one of a single item: shorter items, a smaller network or precision=bf16 take less"
    more = -(-items // fitting)
    while items % more:  # the parts of a micro-batch are of one size
        more += 1
    return (
        f"{begin}; one of {fitting} fits. --override accumulate={accumulate * more} makes the same steps of the same "
        f"batch_size, {items // more} items at a time"
    )
