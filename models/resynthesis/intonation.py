"""The intonation of speech: its F0, and what becomes of it on the way into the vocoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from models.resynthesis.contours import Pair, moved, normalise, own_pair, voiced_median
from models.resynthesis.network import require_one_of
from utils.errors import first_few


class Contour(Protocol):
    f0: np.ndarray  # [M] Hz
    interpolated: np.ndarray


class Tracker(Protocol):
    def __call__(self, wav: np.ndarray, *, peak: float | None = ..., what: str = ...) -> Contour: ...

    def facts(self) -> dict[str, object]: ...


class Statistics(Protocol):
    whole: Pair | None
    by_name: Mapping[str, Pair]

    def of(self, name: str | None) -> Pair | None: ...

    def named(self, names: Sequence[str]) -> None: ...

    def facts(self) -> dict[str, object]: ...


class Intonation:
    """Contours of F0, as a vocoder was trained on them.

    Args:
        tracker: of F0.
        statistics: of the speakers' F0.
        f0_normalize, f0_median, f0_interp: what becomes of a contour.
        f0_source: whose statistics normalise it: ``speaker``, or ``utterance``, its own.
        f0_policy: ``keep``, or ``flat``: all frames 0.

    Raises:
        ValueError: an unknown source or policy.
    """

    def __init__(
        self,
        *,
        tracker: Tracker,
        statistics: Statistics,
        f0_normalize: bool,
        f0_median: bool,
        f0_interp: bool,
        f0_source: str,
        f0_policy: str,
    ):
        require_one_of("f0_source", f0_source, ("speaker", "utterance"))
        require_one_of("f0_policy", f0_policy, ("keep", "flat"))
        self.tracker = tracker
        self.statistics = statistics
        self.f0_normalize = f0_normalize
        self.f0_median = f0_median
        self.f0_interp = f0_interp
        self.f0_source = f0_source
        self.f0_policy = f0_policy

    def contour(self, wav: np.ndarray, peak: float) -> torch.Tensor:
        """What the vocoder was trained on, in Hz, of a file with this peak, or of its beginning."""
        found = self.tracker(wav, peak=peak)
        return torch.from_numpy(found.interpolated if self.f0_interp else found.f0)

    def pair(self, name: str | None, f0: torch.Tensor, *, role: str) -> Pair:
        """Mean and deviation to use for a speaker, as ``f0_source`` says."""
        if role == "source" and self.f0_source == "utterance":
            return own_pair(f0) or (0.0, 0.0)
        pair = self.statistics.of(name)
        if pair is None:
            known = first_few(sorted(self.statistics.by_name)) or "nobody"
            way = "; or f0_source=utterance, which takes the utterance's own" if role == "source" else ""
            raise ValueError(f"f0_stats has nothing of {name!r}, and nothing global; it has {known}{way}")
        return pair

    def prepared(
        self, f0: torch.Tensor, source: str | None, speaker: str | None, *, target: Pair | None = None
    ) -> torch.Tensor:
        """A contour [M] in Hz as the network takes it."""
        if self.f0_policy == "flat":
            return torch.zeros_like(f0)
        if self.f0_normalize:
            pair = self.pair(source, f0, role="source")
            return normalise(f0, *pair, median=voiced_median(f0) if self.f0_median else None)
        if target is not None or speaker != source:
            f0 = moved(f0, target or self.pair(speaker, f0, role="target"))
        return f0
