"""Learning rates that follow the validation metric."""

from __future__ import annotations

from typing import Any

from speechbrain.nnet.schedulers import NewBobScheduler


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

    def step(self, metric: float) -> float:
        """Take in the metric of an epoch (lower is better); returns the scale of the learning rates from now on."""
        _, scale = self._newbob(metric)
        return scale

    @property
    def scale(self) -> float:
        return self._newbob.hyperparam_value

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
