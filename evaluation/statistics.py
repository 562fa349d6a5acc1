"""Means over files with their uncertainty: bootstrap intervals, and paired differences between systems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from evaluation.metric import Score

DRAWS, SEED, CONFIDENCE = 1000, 0, 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean, or a ratio of sums, and the ends of its interval, None where fewer than two files make it.

    Attributes:
        count: files that it is made of.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    def as_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


def estimate(scores: Sequence[Score]) -> Estimate | None:
    """The mean of numbers, or the ratio of sums of (numerator, denominator) pairs, with a 95 % bootstrap interval.

    The files are drawn anew 1,000 times, with a fixed seed, and the interval holds the middle 95 % of what comes out
    (scipy.stats.bootstrap, percentile method). The scores have to be in a settled order.

    Returns:
        None if there is nothing to average.
    """
    samples = _columns(scores)
    if not len(scores) or (len(samples) == 2 and samples[1].sum() == 0):
        return None
    return _bootstrap(samples, len(scores))


def paired_difference(ours: Sequence[Score], others: Sequence[Score]) -> Estimate | None:
    """``ours`` less ``others``, scores of the same files in the same order: the same files are drawn for both."""
    if len(ours) != len(others):
        raise ValueError(f"paired scores are needed, got {len(ours)} and {len(others)}")
    a, b = _columns(ours), _columns(others)
    if not len(ours) or any(len(pair) == 2 and pair[1].sum() == 0 for pair in (a, b)):
        return None
    if len(a) == 1:
        return _bootstrap((a[0] - b[0],), len(ours))
    return _bootstrap((*a, *b), len(ours))


def _statistic(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
    if len(samples) == 1:
        return samples[0].mean(axis=axis)
    sums = [sample.sum(axis=axis) for sample in samples]
    first = sums[0] / sums[1]
    return first if len(sums) == 2 else first - sums[2] / sums[3]


def _bootstrap(samples: Sequence[np.ndarray], count: int) -> Estimate:
    from scipy.stats import bootstrap

    mean = float(_statistic(*samples))
    if count < 2:
        return Estimate(mean, None, None, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = bootstrap(
            tuple(samples),
            _statistic,
            n_resamples=DRAWS,
            batch=50,  # bounds the memory
            paired=True,
            vectorized=True,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    if not (math.isfinite(low) and math.isfinite(high)):  # a draw without a single denominator
        return Estimate(mean, None, None, count)
    return Estimate(mean, low, high, count)


def _columns(scores: Sequence[Score]) -> tuple[np.ndarray, ...]:
    array = np.array(scores, dtype=np.float64)
    return (array,) if array.ndim == 1 else (array[:, 0], array[:, 1])
