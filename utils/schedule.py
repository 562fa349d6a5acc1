"""Learning rates: how their scale follows the step, the epoch and the validation metric."""

from __future__ import annotations

import logging
import math
from typing import Any, Protocol

from speechbrain.nnet.schedulers import NewBobScheduler

log = logging.getLogger(__name__)


class Schedule(Protocol):
    """What the learning rates of an optimizer, or of all, are multiplied with."""

    def scale(self, step: int) -> float:
        """At a step, counted from 0 over the whole training."""
        ...

    def end_epoch(self, metric: float) -> None:
        """Take in the validation metric (lower is better) of an epoch that has ended."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class NewBob:
    """SpeechBrain's NewBob on all optimizers: the rate falls when the metric no longer improves.

    Args:
        factor: what the learning rate is multiplied with.
        threshold: relative improvement below which an epoch counts as one without.
        patience: how many such epochs are let pass first.
    """

    def __init__(self, *, factor: float = 0.9, threshold: float = 0.0025, patience: int = 1):
        # It scales a factor that starts at 1, so that each optimizer keeps its own initial rate.
        self._newbob = NewBobScheduler(1.0, annealing_factor=factor, improvement_threshold=threshold, patient=patience)

    def scale(self, step: int) -> float:
        return self._newbob.hyperparam_value

    def end_epoch(self, metric: float) -> None:
        self._newbob(metric)

    def state_dict(self) -> dict[str, Any]:
        bob = self._newbob
        return {
            "scale": bob.hyperparam_value,
            "metrics": list(bob.metric_values),
            "current_patience": bob.current_patient,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        bob = self._newbob
        bob.hyperparam_value = state["scale"]
        bob.metric_values = list(state["metrics"])
        bob.current_patient = state["current_patience"]


class Exponential:
    """The rate is multiplied with ``factor`` at the end of each epoch."""

    def __init__(self, *, factor: float):
        if not 0 < factor <= 1:
            raise ValueError(f"the factor of an exponential schedule must be in (0, 1], got {factor}")
        self.factor = factor
        self.epochs = 0

    def scale(self, step: int) -> float:
        return self.factor**self.epochs

    def end_epoch(self, metric: float) -> None:
        self.epochs += 1

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs = state["epochs"]


class WarmUpCosine:
    """The rate rises linearly from 0, and then falls along half a cosine (arXiv 1608.03983).

    Args:
        steps: of the whole training; from then on the rate stays at its end.
        warm_up: part of the steps in which it rises.
        end: the scale at the end.
    """

    def __init__(self, *, steps: int, warm_up: float = 0.05, end: float = 0.0):
        if steps < 1 or not 0 <= warm_up < 1:
            raise ValueError(f"steps must be above 0 and warm_up in [0, 1), got {steps} and {warm_up}")
        self.warm_up = round(warm_up * steps)
        self.steps = steps
        self.end = end

    def scale(self, step: int) -> float:
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        done = min((step - self.warm_up) / (self.steps - self.warm_up), 1.0)
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * done)) / 2

    def end_epoch(self, metric: float) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["steps"] != self.steps:
            log.warning(
                "the learning rate was to reach its end at step %d, and now does at step %d: it continues on the new "
                "curve, not from where it was",
                state["steps"],
                self.steps,
            )


class Plateau:
    """The rate is multiplied with ``factor`` when the metric has not improved for more than ``patience`` epochs.

    As torch's ``ReduceLROnPlateau`` in its mode ``min``, but an improvement is measured by the metric's size, so that
    it means the same for a metric below 0, where torch takes what is a little worse for better.

    Args:
        factor: what the learning rate is multiplied with.
        patience: epochs without an improvement that are let pass.
        threshold: relative improvement below which an epoch counts as one without.
        lowest: the scale never falls below.
    """

    def __init__(self, *, factor: float = 0.1, patience: int = 10, threshold: float = 1e-4, lowest: float = 0.0):
        if not 0 < factor < 1 or patience < 0 or threshold < 0 or not 0 <= lowest <= 1:
            raise ValueError(
                "a plateau's factor must be in (0, 1), patience and threshold not below 0, and lowest in [0, 1], got "
                f"{factor}, {patience}, {threshold} and {lowest}"
            )
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.lowest = lowest
        self._scale, self._best, self._without = 1.0, math.inf, 0

    def scale(self, step: int) -> float:
        return self._scale

    def end_epoch(self, metric: float) -> None:
        if math.isinf(self._best) or metric < self._best - self.threshold * abs(self._best):
            self._best, self._without = metric, 0
            return
        self._without += 1
        if self._without > self.patience:
            self._scale, self._without = max(self._scale * self.factor, self.lowest), 0

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self._scale, "best": self._best, "without": self._without}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scale, self._best, self._without = state["scale"], state["best"], state["without"]


def total_steps(*, batches: Any, epochs: int) -> int:
    """Of a whole training: ``batches.steps_per_epoch`` in each of its epochs, for a recipe's schedule."""
    return batches.steps_per_epoch * epochs
