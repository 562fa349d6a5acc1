"""How well the intonation of speech is kept: voicing and F0, frame by frame."""

from __future__ import annotations

import numpy as np

from data.pitch import HOP, PitchTracker
from evaluation.metric import Column, Metric, Score, Signals, Unscorable, version

GROSS = 0.2  # an F0 that is off by more than this part of it is a gross error
_HOW = (
    f"YAAPT ({{package}}, the settings of arXiv 2104.00355, every {HOP} samples, never interpolated) on output and "
    "target, each at a peak of 0.95; all frames of all files in one denominator"
)


class PitchErrors(Metric):
    """Voicing decision error, F0 frame error (Chu and Alwan, ICASSP 2009), and correlation of F0."""

    name = "pitch"

    def __init__(self):
        how = _HOW.format(package=version("amfm-decompy"))
        self.columns = (
            Column("vde", "VDE", f"frames that are voiced in one of the two only; {how}", "lower", "%", is_ratio=True),
            Column(
                "ffe",
                "FFE",
                f"frames that are voiced in one only, or in both with an F0 off by more than {GROSS:.0%} of the "
                f"target's; {how}",
                "lower",
                "%",
                is_ratio=True,
            ),
            Column(
                "f0_correlation",
                "F0 correlation",
                "Pearson's, of F0 in Hz over a file's frames that are voiced in both; none of a file with fewer than "
                "two, or with one F0 only; the same contours",
            ),
        )

    def score(self, signals: Signals) -> dict[str, Score | None]:
        tracker = PitchTracker()
        try:
            return pitch_errors(tracker(signals.target).f0, tracker(signals.output).f0)
        except ValueError as error:
            raise Unscorable(str(error)) from error


def pitch_errors(target: np.ndarray, output: np.ndarray) -> dict[str, Score | None]:
    """Of two contours [M] in Hz, 0 where there is no voice, which may differ by one frame at the end.

    Returns:
        ``vde`` and ``ffe``, each (100 * frames in error, frames), and ``f0_correlation``, None where there is none.

    Raises:
        ValueError: their lengths differ by more than a frame.
    """
    if abs(len(target) - len(output)) > 1:
        raise ValueError(f"contours of {len(target)} and {len(output)} frames differ by more than a frame")
    frames = min(len(target), len(output))
    target, output = (np.asarray(f0[:frames], dtype=np.float64) for f0 in (target, output))
    both = (target > 0) & (output > 0)
    voicing = ((target > 0) != (output > 0)).sum()
    gross = (np.abs(output[both] - target[both]) > GROSS * target[both]).sum()
    return {
        "vde": (100.0 * float(voicing), float(frames)),
        "ffe": (100.0 * float(voicing + gross), float(frames)),
        "f0_correlation": _correlation(target[both], output[both]),
    }


def _correlation(target: np.ndarray, output: np.ndarray) -> float | None:
    if len(target) < 2 or not (np.ptp(target) and np.ptp(output)):
        return None
    return float(np.corrcoef(target, output)[0, 1])
