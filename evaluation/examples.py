"""Which files the page shows: the best, the median and the worst, by one of the metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation import format
from evaluation.items import Item, read_items
from evaluation.page import ROLES, Example
from evaluation.rows import score_of

# What to choose by, where nothing else is asked for: the first that there is.
_PREFERRED = ("estoi", "stoi", "token_error", "speechbert", "dnsmos_ovrl")


def choose(
    summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], items: Sequence[Item], *, by: str | None = None
) -> list[Example]:
    """Read the files to show.

    Args:
        by: a column; None: the first of a few that has values.

    Raises:
        ValueError: there is no such column, or it has no values.
    """
    values = {
        key: sorted((value, row["name"]) for row in rows if (value := _value(row, key)) is not None)
        for key in summary["metrics"]
    }
    if by is not None and not values.get(by):
        raise ValueError(f"--examples-by {by}: no such column with values; there are {', '.join(values)}")
    key = by or next((key for key in (*_PREFERRED, *values) if values.get(key)), None)
    if key is None:
        return []
    column, order = summary["metrics"][key], values[key]
    if column["better"] != "lower":
        order = order[::-1]
    places = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    chosen = {order[place][1]: (why, order[place][0]) for why, place in reversed(places.items())}
    by_name = {item.name: item for item in items}
    by_row = {row["name"]: row for row in rows}
    return [
        _example(by_name[name], by_row[name], why, f"{column['title']} {format.number(value, column['unit'])}", summary)
        for name, (why, value) in reversed(chosen.items())
    ]


def read_median(lists: Path, output: Path, *, by: str) -> Example:
    """The median file of a folder that ``evaluate.py`` has finished; see ``read_examples``."""
    examples = read_examples(lists, output, by=by)
    return examples[len(examples) // 2]


def read_examples(lists: Path, output: Path, *, by: str) -> list[Example]:
    """The best, the median and the worst file of a folder that ``evaluate.py`` has finished, by a column of its
    metrics; fewer of fewer files.

    Args:
        lists: the folder of lists that it was evaluated with.
        output: the folder of the extracted files and the reports.

    Raises:
        FileNotFoundError: one of the folders, or a report in it, is not there.
        ValueError: no file has a value in that column.
    """
    items, _, _ = read_items(lists, output)
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return choose(summary, rows, items, by=by)


def _example(item: Item, row: Mapping[str, Any], why: str, value: str, summary: Mapping[str, Any]) -> Example:
    from data import audio

    paths = {**item.paths, "extracted": item.output}
    if item.stored["ceiling"].exists() and "ceiling" in summary["systems"]:
        paths["ceiling"] = item.stored["ceiling"]
    scores = {
        format.heading(column["title"], unit=column["unit"]): format.number(score, column["unit"])
        for key, column in summary["metrics"].items()
        if (score := _value(row, key)) is not None  # a name of its own: it is the whole function's
    }
    heard = [role for role in ROLES if role in paths and paths[role].suffix.lower() != ".npy"]  # not voiceprints
    signals = {role: audio.read_microphones(paths[role])[0] for role in heard}
    return Example(item.name, why, value, signals, scores)


def _value(row: Mapping[str, Any], key: str) -> float | None:
    return format.value(score_of(row, "extracted", key))
