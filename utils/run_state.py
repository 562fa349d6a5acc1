"""What a training run keeps, how it is saved, and from where it begins or continues."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from utils import checkpoint, distributed
from utils.descent import load_optimizer
from utils.errors import Diverged, describe, first_few
from utils.progress import Progress
from utils.schedule import Schedule
from utils.task import Task

log = logging.getLogger(__name__)


class RunState:
    """The state of a run: weights, optimizers, schedules, loss scale, and how far it is.

    Args:
        task: on its device.
        optimizers: of the task, by name.
        scaler: of the loss.
        schedule: of all learning rates, or one for each of some optimizers; None keeps the rates.
        recipe: text that is kept in the checkpoints.
        steps_per_epoch: of the training data.
        precision: that is computed in; ``auto`` may be another one where a run continues, which is told.

    Raises:
        ValueError: a schedule is for an optimizer that there is not.
    """

    def __init__(
        self,
        task: Task,
        optimizers: Mapping[str, torch.optim.Optimizer],
        scaler: checkpoint.Stateful,
        schedule: Schedule | Mapping[str, Schedule] | None,
        *,
        recipe: str,
        steps_per_epoch: int,
        precision: str = "fp32",
    ):
        if isinstance(schedule, Mapping):
            if unknown := schedule.keys() - optimizers.keys():
                raise ValueError(
                    f"a schedule is for {', '.join(sorted(unknown))}, the optimizers are {', '.join(optimizers)}"
                )
            self.schedules = dict(schedule)
            self._named_schedules = {f"schedule.{name}": one for name, one in schedule.items()}
        else:
            self.schedules = {} if schedule is None else dict.fromkeys(optimizers, schedule)
            self._named_schedules = {} if schedule is None else {"schedule": schedule}
        self.task = task
        self.optimizers = optimizers
        self.scaler = scaler
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.precision = precision
        self.progress = Progress()
        self._initial_rates = {name: [g["lr"] for g in o.param_groups] for name, o in optimizers.items()}
        # Read once: it costs a pass over all frozen weights.
        self._digests = {name: part.digest() for name, part in task.frozen().items()}

    # -- learning rates ------------------------------------------------------------------------------------------

    def apply_rates(self) -> None:
        for name, optimizer in self.optimizers.items():
            scale = self.schedules[name].scale(self.progress.step) if name in self.schedules else 1.0
            for group, initial in zip(optimizer.param_groups, self._initial_rates[name], strict=True):
                group["lr"] = initial * scale

    def end_epoch(self, metric: float) -> None:
        for schedule in self._named_schedules.values():
            schedule.end_epoch(metric)

    # -- saving --------------------------------------------------------------------------------------------------

    def save_last(self, path: Path) -> None:
        self._require_finite(path)
        distributed.require_equal_buffers(self.task.networks())
        if distributed.is_main():
            state = {name: source.state_dict() for name, source in self._sources().items()}
            checkpoint.save(path, {**self._content(), "state": state})

    def save_best(self, path: Path) -> None:
        distributed.require_equal_buffers(self.task.networks())
        if distributed.is_main():
            checkpoint.save(path, {**self._content(), "progress": self.progress.state_dict()})

    def _require_finite(self, path: Path) -> None:
        """Keep what was saved before, rather than weights that are not finite; all processes have the same."""
        state = checkpoint.flatten({n: m.state_dict() for n, m in self.task.networks().items()})
        if bad := [n for n, x in state.items() if x.is_floating_point() and not bool(x.isfinite().all())]:
            raise Diverged(
                f"{len(bad)} of {len(state)} tensors are no longer finite at step {self.progress.step} "
                f"({first_few(bad)}): {path} stays as it was"
            )

    def _sources(self) -> dict[str, checkpoint.Stateful]:
        """What a checkpoint holds beside the trained tensors."""
        named = {f"optimizer.{name}": optimizer for name, optimizer in self.optimizers.items()}
        return named | {"scaler": self.scaler, "progress": self.progress} | self._named_schedules

    def _content(self) -> dict[str, Any]:
        return {
            "model": checkpoint.flatten({n: m.state_dict() for n, m in self.task.networks().items()}),
            "frozen": self._digests,
            "settings": self.task.settings(),
            "recipe": self.recipe,
            "steps_per_epoch": self.steps_per_epoch,
            "precision": self.precision,
        }

    # -- beginning -----------------------------------------------------------------------------------------------

    def begin(self, last: Path, init: Path | None) -> frozenset[str]:
        """Continue from ``last`` if it is there, else take over the weights of ``init`` if one is named.

        Returns:
            The names of the networks whose weights came from a file.

        Raises:
            ValueError: a checkpoint does not fit, or not all processes see the same one.
        """
        # Every process looks before any can write.
        _require_same(last, "it exists:", last.exists())
        loaded: frozenset[str] = frozenset()
        if last.exists():
            loaded = self._restore(last)
        elif init:
            loaded = self._start_from(init)
        _require_same(last, "its steps:", self.progress.step)
        return loaded

    def _restore(self, path: Path) -> frozenset[str]:
        saved, networks = checkpoint.load(path), self.task.networks()
        self.task.adopt_settings(saved.get("settings") or {}, path)
        checkpoint.load_tensors(networks, saved["model"], path)
        checkpoint.require_same(saved, frozen=self._digests, settings=self.task.settings(), source=path)
        sources, progress, states = self._sources(), self.progress, saved.get("state")
        if not isinstance(states, Mapping):
            raise ValueError(
                f"{path} holds weights alone, as best.pth does, and no state of a training: move it elsewhere, and "
                "begin a training from it with --init"
            )
        if missing := sources.keys() - states.keys():
            raise ValueError(f"{path} holds no state of {', '.join(sorted(missing))}: it is from another recipe")
        for name, source in sources.items():
            try:
                if isinstance(source, torch.optim.Optimizer):
                    load_optimizer(source, states[name])
                elif states[name]:  # a loss scaler that was not used saves nothing
                    source.load_state_dict(states[name])
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: the state of {name} cannot be taken over ({describe(error)})") from error
        if progress.step_in_epoch and saved["steps_per_epoch"] != self.steps_per_epoch:
            raise ValueError(
                f"{path} is from the middle of an epoch of {saved['steps_per_epoch']} steps, the recipe now gives "
                f"{self.steps_per_epoch}: continue with the same batch_size and data, or in a new folder"
            )
        log.info("continuing from %s: %d epochs and %d steps done", path, progress.epoch, progress.step)
        if saved.get("precision", self.precision) != self.precision:
            log.warning("until now it was trained in %s, from here on in %s", saved["precision"], self.precision)
        return frozenset(networks)

    def _start_from(self, path: Path) -> frozenset[str]:
        """Take over the weights of the networks that a checkpoint holds; the others keep their initial ones."""
        saved, networks = checkpoint.load(path), self.task.networks()
        is_ours = saved.get("format") == checkpoint.FORMAT
        try:
            self.task.adopt_settings((saved.get("settings") or {}) if is_ours else {}, path)
            tensors = self.task.adopt(dict(saved["model"]) if is_ours else checkpoint.find_tensors(saved))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        tensors = {name: x for name, x in tensors.items() if name.split(".")[0] in networks}
        held = {name: networks[name] for name in networks if any(key.startswith(f"{name}.") for key in tensors)}
        if not held:
            raise ValueError(f"{path} holds none of this recipe's networks ({', '.join(networks)})")
        settings = self.task.initial_settings()
        checkpoint.require_same(saved if is_ours else {}, frozen=self._digests, settings=settings, source=path)
        checkpoint.load_tensors(held, tensors, path)
        fresh = [name for name in networks if name not in held]
        log.info("starting from the weights of %s in %s", ", ".join(held), path)
        if fresh:
            log.info("%s: not in it, so with initial weights", ", ".join(fresh))
        return frozenset(held)


def _require_same(path: Path, what: str, value: object) -> None:
    """Refuse a checkpoint folder that is another one on another node: their processes would wait for each other."""
    found: dict[object, list[str]] = {}
    for host, theirs in distributed.gather((socket.gethostname(), value)):
        found.setdefault(theirs, []).append(host)
    if len(found) > 1:
        seen = "; ".join(f"{theirs} on {first_few(dict.fromkeys(hosts))}" for theirs, hosts in found.items())
        raise ValueError(
            f"not all processes find the same {path} ({what} {seen}): the checkpoint folder must lie on a disk that "
            "all nodes share"
        )
