"""How the files' values of one column are spread: the geometry of a small picture, drawn by page.html."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.format import SYSTEMS, count, number
from evaluation.media import round_step, ticks

_BINS = 10, 36  # at least and at most: more cannot be told apart at this width
_TAIL = 0.01  # of the files at either end may lie outside the axis, where it would be stretched by them


@dataclass(frozen=True)
class Histogram:
    """Lengths in SVG units.

    Attributes:
        outlines: system -> path of its steps; closed for ``extracted``.
        x_ticks, y_ticks: (place, label).
        mean, mean_label, mean_anchor: of the extracted files; the label ends at the mean where it
            would not fit after it.
        text: what the picture shows, in words.
        beyond: how many values lie outside the axis, and are drawn in its outermost bars.
    """

    outlines: dict[str, str]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    mean: float
    mean_label: str
    mean_anchor: str
    text: str
    beyond: int
    # the frame
    width: int = 340
    height: int = 190
    left: int = 46
    right: int = 326
    top: int = 26
    bottom: int = 160


def histogram(
    values: Mapping[str, Sequence[float]], mean: float, *, title: str, unit: str = "", mean_is: str = "mean"
) -> Histogram:
    """Draw the values of each system on one axis.

    Args:
        values: system -> one finite value a file; ``extracted`` has at least one.
        mean: of the extracted files, as the table has it.
        title, unit: of the column.
        mean_is: what to call it.
    """
    arrays = {system: np.asarray(values[system], float) for system in SYSTEMS if len(values.get(system, ()))}
    edges = _edges(np.concatenate([*arrays.values(), [mean]]))
    low, high = float(edges[0]), float(edges[-1])
    heights = {system: np.histogram(array.clip(low, high), edges)[0] for system, array in arrays.items()}
    tallest = max(int(bars.max()) for bars in heights.values())

    frame = Histogram

    def x(place: float) -> float:
        return round(frame.left + (place - low) / (high - low) * (frame.right - frame.left), 1)

    def y(files: float) -> float:
        return round(frame.bottom - files / tallest * (frame.bottom - frame.top), 1)

    ours = arrays["extracted"]
    x_ticks = [(x(place), label) for place, label in ticks(low, high, 6)]
    y_ticks = [(y(files), label) for files, label in ticks(0, tallest, min(6, tallest + 1))]
    named = f"{number(mean, unit)}{' ' + unit if unit else ''}"
    return Histogram(
        outlines={system: _outline(bars, edges, x, y) for system, bars in heights.items()},
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        mean=x(mean),
        mean_label=f"{mean_is} {named}",
        mean_anchor="end" if x(mean) > (frame.left + frame.right) / 2 else "start",
        text=f"{title} of {count(len(ours))} {'file' if len(ours) == 1 else 'files'}: "
        f"{number(ours.min(), unit)} to {number(ours.max(), unit)}, {mean_is} {named}",
        beyond=sum(
            int((abs(array - (low + high) / 2) > (high - low) / 2 * (1 + 1e-6)).sum()) for array in arrays.values()
        ),
    )


def _edges(values: np.ndarray) -> np.ndarray:
    """Round edges of equal bins around the values, or around most of them if few are far from the rest."""
    low, high = np.quantile(values[:-1], [_TAIL, 1 - _TAIL])  # the last is the mean, which is always shown
    low, high = min(low, values[-1]), max(high, values[-1])
    reach = 0.5 * (high - low)
    if reach > 0:
        low, high = max(values.min(), low - reach), min(values.max(), high + reach)
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # all the same: a bar in the middle
        middle, reach = (low + high) / 2, 0.1 * max(abs(low), abs(high)) or 1.0
        low, high = middle - reach, middle + reach
    step = round_step((high - low) / np.clip(2 * math.sqrt(len(values)), *_BINS))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return np.arange(first, max(last, first + 1) + 1) * step


def _outline(heights: np.ndarray, edges: np.ndarray, x, y) -> str:
    path = [f"M{x(edges[0])} {y(0)}"]
    for bar, start, stop in zip(heights, edges[:-1], edges[1:], strict=True):
        path.append(f"L{x(start)} {y(bar)}L{x(stop)} {y(bar)}")
    return "".join([*path, f"L{x(edges[-1])} {y(0)}"])
