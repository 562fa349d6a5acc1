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


@dataclass(frozen=True)
class Objective:
    """One loss to descend, and the optimizer that does it.

    Attributes:
        optimizer: name, a key of ``Task.optimizers()``.
        loss: a scalar, the mean over the micro-batch.
        metrics: scalars for the log, without gradients; the loop averages them.
    """

    optimizer: str
    loss: torch.Tensor
    metrics: Mapping[str, torch.Tensor] = field(default_factory=dict)


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
    """A network, or several, with the losses that train them. It never sees ranks, files, epochs or loggers.

    The loop moves the task to a device, so frozen parts belong into it as submodules too.
    """

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """The modules that train, by name. Their state is what a checkpoint holds."""

    def frozen(self) -> dict[str, nn.Module]:
        """The parts that do not train, by name. A checkpoint holds their digests."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Plain values that whoever uses the trained weights must share; kept in the checkpoint."""
        return {}

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Set initial weights that follow from training data, before the first step: centres of clusters, for example.

        The loop calls this also where it continues a training, and then loads the saved weights over it; so buffers
        that are not saved can be made here too. What is made must follow from the data and torch's seed alone.

        Args:
            batches: the beginning of the first epoch, whole batches on the device, the same in all processes; they are
                loaded as they are asked for.
        """

    @abstractmethod
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One or more new optimizers, by name."""

    @abstractmethod
    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        """The losses of a batch, in the order in which they are descended.

        The loop descends each objective before it asks for the next one. A classifier has one; a GAN computes the
        fake once, yields the discriminator's objective, and then the generator's. Gradients are cleared before an
        optimizer's first micro-batch only: an objective that reaches into another optimizer's network must keep that
        network's parameters from collecting them, or they add up with ``accumulate``; held constant so, that network
        is called directly, not through ``networks``.

        Args:
            batch: as the data set gives it, on the device.
            networks: ``networks()``, wrapped for data parallelism: forward passes that need gradients go through it.
        """

    @abstractmethod
    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, int]]:
        """Metrics of a batch as (sum, count), so that unequal batches and processes average rightly."""

    def media(self, batch: Batch) -> Media:
        """Examples to hear and to see, made of one validation batch."""
        return Media()

    def export(self, folder: Path) -> list[Path]:
        """Write the trained parts into ``folder``, in the form in which other recipes read them; returns the files.

        Raises:
            ValueError: whoever uses this system reads its checkpoint, and there is nothing to export.
        """
        raise ValueError("this recipe's task has nothing to export: its checkpoint is what others read")
