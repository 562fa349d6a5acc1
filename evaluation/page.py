"""The evaluation as one page to look at and listen to: everything inside it, no server, no network, no scripts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import format, tables
from evaluation.histogram import Histogram, histogram
from evaluation.media import audio_url, spectrogram_url, ticks
from evaluation.metric import SAMPLE_RATE
from utils.files import write_text

ROLES = ("mixture", "enrolment", "target", "extracted", "ceiling")
_SECONDS = 15  # of a signal are shown and played
_PROBLEMS = 50  # are listed


@dataclass(frozen=True)
class Example:
    """One file to look at and listen to.

    Attributes:
        name: of the utterance.
        why: it was chosen: ``best``, ``median`` or ``worst``.
        value: by which it was chosen, for instance ``STOI 0.871``.
        signals: role -> [T] float32 at 16 kHz; ``ROLES``, of which some may be missing.
        scores: title of a metric -> formatted value of this file.
    """

    name: str
    why: str
    value: str
    signals: Mapping[str, np.ndarray]
    scores: Mapping[str, str]


@dataclass(frozen=True)
class Panel:
    """One signal of an example. ``ticks`` are (percent of the width, label)."""

    title: str
    seconds: float
    shown: float
    picture: str
    sound: str
    ticks: list[tuple[float, str]]


def write_page(
    path: str | os.PathLike, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], examples: Sequence[Example]
) -> None:
    """Write ``path`` under a temporary name, and rename it when it is complete.

    Args:
        summary: what summary.json holds.
        rows: one for every file: ``name`` and its scores for each system, or ``name`` and ``problem``.
        examples: in the order in which they are shown.
    """
    import jinja2
    from markupsafe import Markup

    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),
        summary=summary,
        format=format,
        heading=_heading,
        systems=[system for system in format.SYSTEMS if system in summary["systems"]],
        problems=summary["problems"][:_PROBLEMS],
        unscored=tables.unscored(summary, rows),
        examples=[(example, list(_panels(example))) for example in examples],
        histograms=list(_histograms(summary, rows)),
        codebooks=tables.codebooks(summary["codebooks"]),
        speed=tables.speed(summary["speed"]),
        speed_note=tables.SPEED_NOTE,
        published=tables.published(summary),
        definitions=tables.by_metric(summary["metrics"]),
    )
    # A file name that is not UTF-8 holds lone surrogates, which no encoding takes.
    write_text(path, page.encode("utf-8", "backslashreplace").decode())


def _heading(column: Mapping[str, Any]) -> str:
    """A column's heading, whose arrow stays on the line of what it belongs to."""
    text = format.heading(column["title"], unit=column["unit"], better=column["better"])
    return text.replace(" ↑", "\N{NO-BREAK SPACE}↑").replace(" ↓", "\N{NO-BREAK SPACE}↓")


def _panels(example: Example) -> Iterator[Panel]:
    for role in ROLES:
        wav = example.signals.get(role)
        if wav is None or len(wav) == 0:
            continue
        seconds = len(wav) / SAMPLE_RATE
        wav = wav[: _SECONDS * SAMPLE_RATE]
        shown = len(wav) / SAMPLE_RATE
        yield Panel(
            title=format.SYSTEMS["ceiling"] if role == "ceiling" else role,
            seconds=seconds,
            shown=shown,
            picture=spectrogram_url(wav),
            sound=audio_url(wav),
            ticks=[(round(100 * place / shown, 2), label) for place, label in ticks(0, shown, 8)],
        )


def _histograms(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Histogram]]:
    """(heading, picture) of every column that has a value."""
    for name, column in summary["metrics"].items():
        scores = {system: [row[system].get(name) for row in rows if system in row] for system in format.SYSTEMS}
        values = {system: [v for v in map(format.value, scores[system]) if v is not None] for system in scores}
        if not values["extracted"]:
            continue
        is_ratio = any(isinstance(score, list | tuple) for score in scores["extracted"])
        mean = format.value(column["systems"].get("extracted", {}).get("mean"))
        yield (
            _heading(column),
            histogram(
                values,
                float(np.mean(values["extracted"])) if mean is None else mean,
                title=column["title"],
                unit=column["unit"],
                mean_is="overall" if is_ratio else "mean",
            ),
        )
