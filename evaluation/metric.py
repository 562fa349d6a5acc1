"""What a metric is. One metric may give several numbers, its columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata, util
from typing import Any

import numpy as np

SAMPLE_RATE = 16000  # of every signal that is scored, in Hz
# A number, or (numerator, denominator) of a column that is summarised as the ratio of their sums.
Score = float | tuple[float, float]


class Unavailable(ValueError):
    """A metric that cannot run here at all; the message says why, and the way out."""


class Unscorable(ValueError):
    """A file that a metric cannot score; the message says why."""


@dataclass(frozen=True)
class Column:
    """One number of a metric.

    Attributes:
        name: its key in rows and summaries.
        title: its heading in tables.
        definition: exactly what is computed, with every detail that changes the number.
        better: ``higher`` or ``lower``; empty where neither is.
        unit: ``dB``, ``%`` ... or empty.
        is_ratio: the summary is the ratio of sums over the files, not the mean of the files' values.
    """

    name: str
    title: str
    definition: str
    better: str = "higher"
    unit: str = ""
    is_ratio: bool = False


@dataclass(frozen=True)
class Signals:
    """One file to score, and what there is to score it against. All are [T] float32 at 16 kHz, equally long.

    Attributes:
        output: what is scored: an extraction, or for comparison the mixture or the resynthesised target.
        target: the clean speech of the talker asked for.
        mixture: what it was extracted from.
        interferer: everything in the mixture but the target.
        tokens: of ``output`` and ``target`` by the tokenizer, and, where they were kept, those that the network
            predicted (``predicted``), [N, K] each.
        without_tokens: why there are none.
        name: in the lists.
        presence: what the system said of whether the talker is there, in [0, 1]; None: nothing.
    """

    output: np.ndarray
    target: np.ndarray | None = None
    mixture: np.ndarray | None = None
    interferer: np.ndarray | None = None
    tokens: Mapping[str, np.ndarray] = field(default_factory=dict)
    without_tokens: str | None = None
    name: str = ""
    presence: float | None = None


class Metric(ABC):
    """Base class. The constructor is cheap, checks that the metric can run here, and raises Unavailable if not.

    A metric is made in the main process, pickled to others, and loads its weights there, with ``load``.

    Attributes:
        name: what ``--metrics`` calls it.
        columns: the numbers that it gives.
        needs: which fields of Signals it cannot do without.
        on_device: whether it has a network that a GPU would speed up.
        reads_tokens: whether it needs ``Signals.tokens``.
        takes_silence: whether it scores an output of zeros, as a system gives that found the talker absent; others have
            no score of such a file.
        floor_and_ceiling: whether the mixture and the resynthesised target are scored too: ``asked`` for, ``always``
            or ``never``.
        models: name -> digest of every weight file that it uses.
    """

    name: str
    columns: tuple[Column, ...]
    needs: tuple[str, ...] = ("target",)
    on_device: bool = False
    reads_tokens: bool = False
    takes_silence: bool = False
    floor_and_ceiling: str = "asked"
    models: Mapping[str, str] = {}

    def load(self, device: str) -> None:  # noqa: B027 - most have nothing to load
        """Load what takes time, in the process that scores. Raises Unavailable."""

    @abstractmethod
    def score(self, signals: Signals) -> dict[str, Score | None]:
        """One score for each column, None where the file has none.

        Raises Unscorable; whatever else it raises counts as that too.
        """


class Remembered:
    """A function's last answer: the same target is scored for several outputs, one after the other."""

    def __init__(self) -> None:
        self._key: bytes | None = None
        self._answer: Any = None

    def __call__(self, function: Callable[[np.ndarray], Any], wav: np.ndarray) -> Any:
        key = wav.tobytes()
        if key != self._key:
            self._key, self._answer = None, function(wav)
            self._key = key
        return self._answer


def require_packages(*names: str) -> None:
    """Raise Unavailable, with the way out, unless the packages are installed."""
    if missing := [name for name in names if util.find_spec(name) is None]:
        raise Unavailable(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed: "
            "pip install -r requirements-eval.txt"
        )


def version(package: str) -> str:
    return f"{package} {metadata.version(package)}"
