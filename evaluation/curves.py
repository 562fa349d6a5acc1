"""Curves of trainings, as a picture that a README can show: SVG without scripts or outside parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from math import isnan

from evaluation.media import ticks

_COLOURS = ("#1b6ca8", "#c2410c", "#2f855a", "#6b46c1", "#a16207")
_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 470, 34, 258


def curves_svg(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_title: str,
    y_title: str,
    levels: Mapping[str, float] | None = None,
) -> str:
    """Draw lines on one pair of axes, and levels to compare them with.

    Args:
        curves: name -> (x, y) points, at least one of them in all; where y is NaN the line is broken.
        levels: name -> y of a dashed line.

    Raises:
        ValueError: there is no point at all.
    """
    levels = levels or {}
    points = [(x, y) for curve in curves.values() for x, y in curve if not isnan(y)]
    if not points:
        raise ValueError(f"there is nothing to draw for {title}")
    xs, ys = [x for x, _ in points], [*(y for _, y in points), *levels.values()]
    x_low, x_high = min([0, *xs]), max(xs) or 1
    spread = max(ys) - min(ys) or abs(max(ys)) or 1
    y_low, y_high = min(ys) - 0.06 * spread, max(ys) + 0.06 * spread

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_low) / (x_high - x_low) * (_RIGHT - _LEFT)
        return round(across, 1), round(_BOTTOM - (y - y_low) / (y_high - y_low) * (_BOTTOM - _TOP), 1)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14" fill="#111">{escape(title)}</text>',
    ]
    for y, label in ticks(y_low, y_high, 6):
        _, row = place(x_low, y)
        lines.append(f'<path d="M{_LEFT} {row}H{_RIGHT}" stroke="#ddd"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{row + 4}" text-anchor="end" fill="#444">{label}</text>')
    for x, label in ticks(x_low, x_high, 6):
        column, _ = place(x, y_low)
        lines.append(f'<text x="{column}" y="{_BOTTOM + 16}" text-anchor="middle" fill="#444">{label}</text>')
    middle = (_LEFT + _RIGHT) / 2
    lines.append(f'<text x="{middle}" y="{_BOTTOM + 34}" text-anchor="middle" fill="#444">{escape(x_title)}</text>')
    turn = f"translate(14 {(_TOP + _BOTTOM) / 2}) rotate(-90)"
    lines.append(f'<text transform="{turn}" text-anchor="middle" fill="#444">{escape(y_title)}</text>')
    row = _TOP + 8
    for (name, curve), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
        if not curve:
            continue
        unbroken = [list(run) for is_gap, run in groupby(curve, lambda point: isnan(point[1])) if not is_gap]
        path = "".join("M" + "L".join(f"{x} {y}" for x, y in (place(*point) for point in run)) for run in unbroken)
        lines.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines.append(f'<path d="M{_RIGHT + 10} {row - 4}h16" stroke="{colour}" stroke-width="2"/>')
        lines.append(f'<text x="{_RIGHT + 32}" y="{row}" fill="#111">{escape(name)}</text>')
        row += 18
    for name, y in levels.items():
        _, level = place(x_low, y)
        lines.append(f'<path d="M{_LEFT} {level}H{_RIGHT}" stroke="#555" stroke-dasharray="5 4"/>')
        lines.append(f'<text x="{_RIGHT + 6}" y="{level + 4}" fill="#555">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _cycle(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]
