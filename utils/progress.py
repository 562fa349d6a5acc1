"""What a training run keeps beside its weights: how far it is, its running means, and whether it was asked to stop."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from utils import distributed

# Seconds after which a second Ctrl-C is another one. The first may come twice: from the terminal and from a launcher.
APART = 1.0


@dataclass
class Progress:
    """How far a run is. An epoch counts when it has been evaluated.

    Attributes:
        epoch: epochs that are done.
        step_in_epoch: steps done of the next one.
        step: steps done in all.
        skipped: steps, of these, that were not taken because a gradient was not finite.
        best: the best metric so far.
        since_best: epochs evaluated since then.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    skipped: int = 0
    best: float = float("inf")
    since_best: int = 0

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__init__(**state)


@dataclass
class StopRequest:
    """Set from a signal handler; the loop saves and stops when it is safe.

    Attributes:
        requested: somebody asked to save and stop.
        since: when, in seconds of ``time.monotonic``.
    """

    requested: bool = False
    since: float = 0.0

    def due(self, step: int) -> bool:
        """Whether to stop now that so many steps are done."""
        return self.requested

    @contextlib.contextmanager
    def on_signals(self, *numbers: int) -> Iterator[None]:
        """Within this context a signal asks to save and stop, and Ctrl-C after that stops at once.

        Schedulers and launchers repeat their signals, or send another when the time is over, while the state is being
        saved: only Ctrl-C can be impatience, and only where it comes apart. A signal that is ignored stays so: a
        launcher may have decided that it is not for this process.
        """

        def ask(number: int, frame: object) -> None:
            # Nothing else may be done here: a signal comes also in the middle of a write.
            if not self.requested:
                self.requested, self.since = True, time.monotonic()
            elif number == signal.SIGINT and time.monotonic() - self.since > APART:
                raise KeyboardInterrupt

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

    def add(
        self,
        name: str,
        value: torch.Tensor,
        *,
        count: torch.Tensor | int = 1,
        where: torch.Tensor | None = None,
    ) -> None:
        """Take in a scalar, the sum of ``count`` values; with ``where``, a bool on the same device, only if true."""
        value = value.detach().float()
        self.sums[name] = self.sums[name] + (value if where is None else value.masked_fill(~where, 0.0))
        self.counts[name] = self.counts[name] + (count if where is None else count * where)

    def pop(self) -> dict[str, float]:
        """The means over all processes, which may have other names; NaN where nothing was taken in."""
        names = sorted({name for names in distributed.gather(sorted(self.sums)) for name in names})
        if not names:
            return {}
        device = next((x.device for x in self.sums.values()), torch.device("cpu"))
        pairs = [(self.sums.get(n, 0.0), self.counts.get(n, 0)) for n in names]
        totals = torch.stack([torch.as_tensor(x, dtype=torch.float64, device=device) for pair in pairs for x in pair])
        values = distributed.sum_over_processes(totals).view(-1, 2).tolist()
        self.sums.clear(), self.counts.clear()
        return {n: total / count if count else float("nan") for n, (total, count) in zip(names, values, strict=True)}


@dataclass
class Skipped:
    """Counts the steps that were not taken, on the device: reading them makes the host wait.

    Attributes:
        counts: optimizer -> steps skipped since the last reading, steps skipped in a row, and the longest such row.
        places: epoch and step in it, and whether it was skipped, since the last reading.
    """

    counts: dict[str, tuple[torch.Tensor | int, ...]] = field(default_factory=dict)
    places: list[tuple[tuple[int, int], torch.Tensor]] = field(default_factory=list)
    _place: tuple[int, int] = (0, 0)

    def at(self, epoch: int, step: int) -> None:
        """What is taken in from now on is of this step of this epoch."""
        self._place = epoch, step

    def add(self, name: str, skipped: torch.Tensor) -> None:
        """Take in whether a step of this optimizer was skipped, a bool."""
        self.places.append((self._place, skipped))
        new, row, longest = self.counts.get(name, (0, 0, 0))
        row = (row + skipped) * skipped
        self.counts[name] = (new + skipped, row, row.clamp(min=longest))

    def pop(self) -> dict[str, tuple[int, int]]:
        """Of each optimizer the steps skipped since the last reading, and the longest row of them ever."""
        read = {name: (int(new), int(longest)) for name, (new, _, longest) in self.counts.items()}
        self.counts = {name: (0, row, longest) for name, (_, row, longest) in self.counts.items()}
        return read

    def pop_places(self) -> list[tuple[int, int]]:
        """Epoch and step in it, of all steps skipped since the last reading."""
        places, self.places = self.places, []
        return list(dict.fromkeys(place for place, skipped in places if skipped))
