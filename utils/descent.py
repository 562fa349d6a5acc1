"""From batches to one step of each objective, without making the host wait for the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from utils import distributed
from utils.halves import release_memory
from utils.precision import autocast, float32_products
from utils.progress import Averages, Skipped
from utils.task import Batch, Networks, Objective, Task


class Descent:
    """What a step is made with: precision, accumulation, clipping, and the optimizers.

    The gradients of all processes are summed here, and not by DistributedDataParallel, which averages within a
    backward pass and so must know at the forward pass which one is the last: it can neither hold the fakes of several
    micro-batches, nor divide by counts that differ, nor pass over a network that a process did not use.

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
        """Descend each objective of the next ``accumulate`` batches, one after the other.

        Args:
            networks: those of the task.
            averages: get the objectives' metrics, and the norms of the gradients of steps that were taken.

        Returns:
            The items that this process contributed.
        """
        items, micro_batches = 0, []
        for _ in range(self.accumulate):
            batch = self.to_device(next(batches))
            items += len(next(iter(batch.values())))
            micro_batches.append(iter(task.objectives(batch, networks)))
        unscaled: set[str] = set()  # a loss scaler divides an optimizer's gradients once between two updates
        while (found := self._backward(micro_batches, averages)) is not None:
            name, first, counts = found
            parameters = [p for group in self.optimizers[name].param_groups for p in group["params"]]
            parameters = [p for p in parameters if p.requires_grad]
            self._average(name, parameters, first, counts, leaves_unused=task.leaves_unused)
            if not any(p.grad is not None for p in parameters):
                continue
            if name in unscaled:
                self._update_scaler(unscaled)
            unscaled.add(name)
            self._descend(name, averages)
        if unscaled:
            self._update_scaler(unscaled)
        return items

    def to_device(self, batch: Batch) -> Batch:
        return {
            name: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }

    def fitting(self, task: Task, batch: Batch) -> int:
        """The most items, of half of a batch, a quarter and so on, whose losses and gradients fit into the memory.

        The task's weights stay, but for what its forward passes change: the training is not to go on after this.
        """
        items = len(next(iter(batch.values())))
        while (items := items // 2) and not self._fits(task, {name: value[:items] for name, value in batch.items()}):
            pass
        return items

    def _fits(self, task: Task, batch: Batch) -> bool:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        release_memory()
        try:
            # What an optimizer keeps is made in its first step: two moments of each weight.
            groups = [g for o in self.optimizers.values() if not o.state for g in o.param_groups]
            held = [torch.empty_like(p) for g in groups for p in g["params"] for _ in range(2)]
            micro_batch = [iter(task.objectives(self.to_device(batch), task.networks()))]
            while self._backward(micro_batch, Averages()) is not None:
                pass
            del held
        except torch.OutOfMemoryError:
            return False
        return True

    def _backward(
        self, micro_batches: Sequence[Iterator[Objective]], averages: Averages
    ) -> tuple[str, torch.Tensor | int, list[torch.Tensor | int]] | None:
        """Collect the gradients of the next objective of all micro-batches.

        Returns:
            Its optimizer, what its losses were divided by already, and the counts of the micro-batches; None if there
            is no further one.
        """
        name, first, counts = None, 1, []
        for number, objectives in enumerate(micro_batches):
            with autocast(self.device, self.precision):
                objective = next(objectives, None)
            if number == 0 and objective is not None:
                name = objective.optimizer
                self.optimizers[name].zero_grad(set_to_none=True)
                # Near to what they are divided by in the end, so that a loss scaler finds them in its range.
                first = _at_least_one(objective.count)
            if name != (objective and objective.optimizer):
                raise RuntimeError("the micro-batches of a step must have the same objectives, in the same order")
            if objective is None:
                continue
            counts.append(objective.count)
            if objective.loss.requires_grad:  # else nothing that trains was used
                with float32_products(self.precision):
                    self.scaler.scale(objective.loss / first).backward()
            for metric, value in objective.metrics.items():
                total, count = value if isinstance(value, tuple) else (value, 1)
                averages.add(metric, total, count=count)
        return None if name is None else (name, first, counts)

    def _average(
        self,
        name: str,
        parameters: Sequence[torch.Tensor],
        first: torch.Tensor | int,
        counts: Sequence[torch.Tensor | int],
        *,
        leaves_unused: bool,
    ) -> None:
        """Sum the gradients over all processes, and divide them by all counts."""
        if distributed.world_size() == 1:
            if len(counts) > 1:
                share = first / _at_least_one(sum(counts))
                for p in parameters:
                    if p.grad is not None:
                        p.grad.mul_(share)
            return
        total = distributed.sum_over_processes(_as_tensor(sum(counts), self.device))
        unused = [p.grad is None for p in parameters]
        if leaves_unused:
            used = distributed.any_over_processes(*(not x for x in unused))
            parameters = [p for p, is_used in zip(parameters, used, strict=True) if is_used]
            for p in parameters:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
        elif any(unused):
            raise RuntimeError(
                f"{sum(unused)} of {len(unused)} parameters of the optimizer {name} have no gradient: a task in which "
                "that may happen says leaves_unused = True"
            )
        share = first / total.clamp(min=1)
        distributed.sum_all_over_processes([p.grad.mul_(share) for p in parameters])

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

    def _update_scaler(self, unscaled: set[str]) -> None:
        if self.scaler.is_enabled():
            self.scaler.update()
        unscaled.clear()


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


def _at_least_one(count: torch.Tensor | int) -> torch.Tensor | int:
    return count.clamp(min=1) if isinstance(count, torch.Tensor) else max(count, 1)


def _as_tensor(count: torch.Tensor | int, device: torch.device) -> torch.Tensor:
    if isinstance(count, torch.Tensor):
        return count.detach().to(device, torch.float64, copy=True)
    return torch.full((), count, dtype=torch.float64, device=device)
