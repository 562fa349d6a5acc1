"""How numbers are written, the same in every report."""

from __future__ import annotations

import math
from collections.abc import Mapping

from evaluation.metric import Score

# What is scored, in the order in which it is shown.
SYSTEMS = {"extracted": "extracted", "mixture": "mixture (floor)", "ceiling": "resynthesised target (ceiling)"}
NOTHING = "–"
_DIGITS = {"dB": 2, "%": 1}


def value(score: Score | None) -> float | None:
    """A score as one number: itself, or numerator / denominator. None where there is no finite number."""
    if isinstance(score, list | tuple):
        numerator, denominator = score
        score = numerator / denominator if denominator else None
    return float(score) if score is not None and math.isfinite(score) else None


def number(score: Score | None, unit: str = "") -> str:
    """A number of a column in ``unit``: two digits after the point for dB, one for %, else three; without its unit."""
    if (plain := value(score)) is None:
        return NOTHING
    text = f"{plain:.{_DIGITS.get(unit, 3)}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval(summary: Mapping, unit: str = "") -> str:
    """``[0.805, 0.819]`` from ``low`` and ``high``; empty where either is missing."""
    low, high = value(summary.get("low")), value(summary.get("high"))
    return "" if low is None or high is None else f"[{number(low, unit)}, {number(high, unit)}]"


def mean(summary: Mapping, unit: str = "") -> str:
    """``0.812 [0.805, 0.819]``: the mean with its interval, where it has one."""
    return f"{number(summary.get('mean'), unit)} {interval(summary, unit)}".rstrip()


def heading(title: str, *, unit: str = "", better: str = "") -> str:
    """``SI-SDR (dB) ↑``: a column's title with its unit and an arrow to where it is better."""
    arrow = {"higher": "↑", "lower": "↓"}.get(better, "")
    return " ".join(part for part in (title, f"({unit})" if unit else "", arrow) if part)


def count(number_of: int) -> str:
    """``3,000``."""
    return f"{number_of:,}"


def bitrate(bits: float | None) -> str:
    """Bits a second as ``4,000 bit/s``."""
    if (bits := value(bits)) is None:
        return NOTHING
    return f"{bits:,.1f}".removesuffix(".0") + " bit/s"


def memory(size: float | None) -> str:
    """Bytes as ``850 MB`` or ``1.20 GB``."""
    if (size := value(size)) is None:
        return NOTHING
    return f"{size / 1e9:.2f} GB" if size >= 999.5e6 else f"{size / 1e6:.0f} MB"
