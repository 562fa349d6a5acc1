"""The training contract: what a system tells the loop, and nothing of what the loop does with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

Batch = Mapping[str, torch.Tensor]
Networks = Mapping[str, Callable[..., torch.Tensor]]
Metric = torch.Tensor | tuple[torch.Tensor, torch.Tensor | int]


@dataclass(frozen=True)
class Objective:
    """One loss to descend, and the optimizer that does it.

    What is descended is the sum of all ``loss`` divided by the sum of all ``count``, over the micro-batches of a step
    and over all processes, so that it does not matter how a step is divided, also where lengths differ.

    Attributes:
        optimizer: name, a key of ``Task.optimizers()``.
        loss: a scalar, the sum over what is counted.
        metrics: for the log, without gradients: a scalar, or a sum and a count; the loop averages them.
        count: how many were summed: items, frames, tokens; 0 where there was none. A mean over a micro-batch, where all
            are of one size, may stay a mean of count 1.
    """

    optimizer: str
    loss: torch.Tensor
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    count: torch.Tensor | int = 1


@dataclass(frozen=True)
class Media:
    """Examples for the log.

    Attributes:
        audio: name -> [T] samples in [-1, 1].
        images: name -> [3, H, W] in [0, 1].
        sample_rate: of the audio, in Hz.
    """

    audio: Mapping[str, torch.Tensor] = field(default_factory=dict)
    images: Mapping[str, torch.Tensor] = field(default_factory=dict)
    sample_rate: int = 16000


class Task(nn.Module, ABC):
    """A network, or several, with the losses that train them. It never sees ranks, files or loggers.

    The loop moves the task to a device, so frozen parts belong into it as submodules too.

    Attributes:
        leaves_unused: a step may leave parameters that train without a gradient. Processes then tell each other which,
            and one that no process used stays as it is. Without it, several processes refuse such a step.
    """

    leaves_unused: bool = False

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """The modules that train, by name. Their state is what a checkpoint holds."""

    def frozen(self) -> dict[str, nn.Module]:
        """The parts that do not train, by name. A checkpoint holds their digests."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Plain values that whoever uses the trained weights must share; kept in the checkpoint."""
        return {}

    def initial_settings(self) -> dict[str, Any]:
        """Those of ``settings`` that a checkpoint must share whose weights a new training starts from."""
        return self.settings()

    def adopt_settings(self, settings: Mapping[str, Any], source: Path) -> None:
        """Take over what the checkpoint says that a training continues, or begins from, before its settings are
        compared and its weights adopted: in which order its classes are, for example.

        Args:
            settings: of the checkpoint; of a file of another program there are none.
            source: the file.
        """

    def adopt(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Turn the weights that a new training starts from into this task's: rename, reshape, quantise.

        Args:
            tensors: of the checkpoint, ``network.parameter`` -> tensor; of a file of another program, its tensors
                under the keys that lead to them, joined by dots.

        Returns:
            Tensors by the names that ``networks()`` have here. A network of which there is none keeps its weights;
            tensors of other networks are left out.
        """
        return tensors

    def prepare(self, batches: Iterator[Batch], *, loaded: frozenset[str]) -> None:
        """Set what follows from training data before the first step: centres of clusters, for example.

        The loop calls this also where it continues a training, so that buffers that are not saved can be made here
        too. What is made must follow from the data, the weights and torch's seed alone.

        Args:
            batches: the beginning of the first epoch, whole batches on the device, the same in all processes; they are
                loaded as they are asked for.
            loaded: names of the networks that have weights from a checkpoint, which must stay as they are.
        """

    def begin_epoch(self, epoch: int) -> None:
        """Called before the steps of an epoch, counted from 0; also when a training continues in its middle."""

    def begin_step(self, step: int) -> None:
        """Called before each step, counted from 0 over the whole training."""

    def end_step(self, sum_over_processes: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Called after each step, for buffers that follow from its batches: an EMA codebook's, for example.

        They must be the same in all processes, so what they follow from is summed first: by the argument, which every
        process must call equally often, on tensors of the same shapes. Micro-batches are to be summed by the module.
        Means and variances of batch normalisation are averaged by the loop itself.
        """

    @abstractmethod
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One or more new optimizers, by name."""

    @abstractmethod
    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        """The losses of a micro-batch, in the order in which they are descended, the same ones for each.

        The loop asks all micro-batches of a step, in all processes, for their first objective, and descends it; only
        then does it ask for the second. A classifier has one; a GAN computes the fake, yields the discriminator's
        objective, and then the generator's, against the discriminator that has stepped. What is kept from one
        objective to the next is kept of all micro-batches: a fake with its graph, if it is computed once; to spend
        time and not memory, keep the detached fake and compute it again after the first ``yield``. Each objective is
        a step of its optimizer, whose gradients are cleared before.

        Args:
            batch: as the data set gives it, on the device.
            networks: ``networks()``, through which the forward passes go.
        """

    @abstractmethod
    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, int]]:
        """Metrics of a batch as (sum, count), so that unequal batches and processes average rightly."""

    def warnings(self, values: Mapping[str, float]) -> list[str]:
        """What whoever trains should be told, given the means of a validation; the loop tells the same once."""
        return []

    def media(self, batch: Batch) -> Media:
        """Examples to hear and to see, made of one validation batch."""
        return Media()

    def export(self, folder: Path) -> list[Path]:
        """Write the trained parts into ``folder``, in the form in which other recipes read them; returns the files.

        Raises:
            ValueError: whoever uses this system reads its checkpoint, and there is nothing to export.
        """
        raise ValueError("this recipe's task has nothing to export: its checkpoint is what others read")
