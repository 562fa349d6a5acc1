"""What a training run keeps beside its weights: how far it is, its running means, and whether it was asked to stop."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from utils import distributed

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a run is. An epoch counts when it has been evaluated.

    Attributes:
        epoch: epochs that are done.
        step_in_epoch: steps done of the next one.
        step: steps done in all.
        skipped: steps, of these, that were not taken because a gradient was not finite.
        best: the best metric so far.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    skipped: int = 0
    best: float = float("inf")

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__init__(**state)


@dataclass
class StopRequest:
    """Set from a signal handler; the loop saves and stops when it is safe."""

    requested: bool = False

    @contextlib.contextmanager
    def on_signals(self, *numbers: int) -> Iterator[None]:
        """Within this context a signal asks to save and stop, and a second one stops at once.

        A signal that is ignored stays so: a launcher may have decided that it is not for this process.
        """

        def ask(number: int, frame: object) -> None:
            if self.requested:
                raise KeyboardInterrupt
            self.requested = True
            log.info("stopping after this step; once more stops at once, without saving")

        handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, ask) for number in handled}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@dataclass
class Averages:
    """Means of the metrics since the last line in the log, kept on the device: reading one makes the host wait."""

    sums: dict[str, torch.Tensor] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, int | torch.Tensor] = field(default_factory=lambda: defaultdict(int))

    def add(self, name: str, value: torch.Tensor, *, where: torch.Tensor | None = None) -> None:
        """Take in a scalar; with ``where``, a bool on the same device, only if that is true."""
        value = value.detach().float()
        self.sums[name] = self.sums[name] + (value if where is None else value.masked_fill(~where, 0.0))
        self.counts[name] = self.counts[name] + (1 if where is None else where)

    def pop(self) -> dict[str, float]:
        """The means over all processes; NaN where nothing was taken in."""
        names = sorted(self.sums)
        if not names:
            return {}
        totals = distributed.sum_over_processes(torch.stack([self.sums[n] / self.counts[n] for n in names]))
        self.sums.clear(), self.counts.clear()
        return dict(zip(names, (totals / distributed.world_size()).tolist(), strict=True))


@dataclass
class Skipped:
    """Counts the steps that were not taken, on the device: reading them makes the host wait.

    Attributes:
        counts: optimizer -> steps skipped since the last reading, steps skipped in a row, and the longest such row.
    """

    counts: dict[str, tuple[torch.Tensor | int, ...]] = field(default_factory=dict)

    def add(self, name: str, skipped: torch.Tensor) -> None:
        """Take in whether a step of this optimizer was skipped, a bool."""
        new, row, longest = self.counts.get(name, (0, 0, 0))
        row = (row + skipped) * skipped
        self.counts[name] = (new + skipped, row, row.clamp(min=longest))

    def pop(self) -> dict[str, tuple[int, int]]:
        """Of each optimizer the steps skipped since the last reading, and the longest row of them ever."""
        read = {name: (int(new), int(longest)) for name, (new, _, longest) in self.counts.items()}
        self.counts = {name: (0, row, longest) for name, (_, row, longest) in self.counts.items()}
        return read
