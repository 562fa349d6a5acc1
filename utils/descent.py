"""From batches to one step of each optimizer, without making the host wait for the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from utils import distributed
from utils.precision import autocast, float32_products
from utils.progress import Averages, Skipped
from utils.task import Batch, Networks, Task


class Descent:
    """What a step is made with: precision, accumulation, clipping, and the optimizers.

    A step whose gradient is not finite is not taken, in all processes alike. A fused optimizer (``fused: True``) learns
    that on the device, but for its first step; with any other one the host waits in each step.

    Args:
        optimizers: of the task, by name.
        device: where the task is.
        precision: of forward and backward pass; ``fp16`` with loss scaling.
        accumulate: micro-batches of a step.
        clip_norm: the gradient's norm is cut to this; None leaves it.
    """

    def __init__(
        self,
        optimizers: Mapping[str, torch.optim.Optimizer],
        device: torch.device,
        *,
        precision: str = "fp32",
        accumulate: int = 1,
        clip_norm: float | None = None,
    ):
        self.optimizers = optimizers
        self.device = device
        self.precision = precision
        self.accumulate = accumulate
        self.clip_norm = float("inf") if clip_norm is None else clip_norm
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.skipped = Skipped()

    def step(self, task: Task, networks: Networks, batches: Iterator[Batch], averages: Averages) -> int:
        """Descend each objective of the next ``accumulate`` batches.

        Args:
            networks: those of the task, wrapped for data parallelism.
            averages: get the objectives' metrics, and the norms of the gradients of steps that were taken.

        Returns:
            The items that this process contributed.
        """
        items = 0
        for micro in range(self.accumulate):
            batch = self.to_device(next(batches))
            items += len(next(iter(batch.values())))
            last = micro == self.accumulate - 1
            with distributed.without_sync(list(networks.values()), active=not last):
                objectives = iter(task.objectives(batch, networks))
                while True:
                    with autocast(self.device, self.precision):
                        objective = next(objectives, None)
                    if objective is None:
                        break
                    if micro == 0:
                        self.optimizers[objective.optimizer].zero_grad(set_to_none=True)
                    with float32_products(self.precision):
                        self.scaler.scale(objective.loss / self.accumulate).backward()
                    for name, value in objective.metrics.items():
                        averages.add(name, value)
                    if last:
                        self._descend(objective.optimizer, averages)
        if self.scaler.is_enabled():
            self.scaler.update()
        return items

    def to_device(self, batch: Batch) -> Batch:
        return {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}

    def _descend(self, name: str, averages: Averages) -> None:
        optimizer = self.optimizers[name]
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        finite = norm.isfinite()
        # The first step makes the optimizer's state, and not every fused one makes a sound one in a step not taken.
        if optimizer.state and getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer.found_inf = (~finite).float()  # as torch's own loss scaler tells it
            try:
                optimizer.step()
            finally:
                del optimizer.found_inf
        elif finite:
            optimizer.step()
        self.skipped.add(name, ~finite)
        averages.add(f"grad_norm_{name}", norm, where=finite)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load an optimizer's state, but not whether it is fused: torch would take that over from the state too.

    Raises:
        ValueError: the state is of other groups of parameters.
    """
    groups = state["param_groups"]
    if len(groups) == len(optimizer.param_groups):  # else torch says what is wrong
        own = [{k: group[k] for k in ("fused", "foreach") if k in group} for group in optimizer.param_groups]
        groups = [{**group, **kept} for group, kept in zip(groups, own, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": groups})
