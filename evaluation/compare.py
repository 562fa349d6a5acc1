"""Systems side by side: the same files, and which differences are larger than the noise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation import format
from evaluation.rows import score_of
from evaluation.statistics import estimate, in_words, paired_difference
from evaluation.summary import table
from evaluation.talkers import talkers_of_rows

WITHIN = "within the noise"


def compare(folders: Sequence[Path], *, cluster: str | None = None) -> dict[str, Any]:
    """Compare evaluated folders, column by column, over the files that all of them have a score for.

    Every system is compared with the first. A difference is outside the noise if its 95 % paired bootstrap interval
    leaves out zero.

    Args:
        folders: that evaluate.py has filled.
        cluster: intervals are over talkers, and these known by this, see ``evaluation.talkers``; None: over files.

    Raises:
        FileNotFoundError: a folder that has not been evaluated.
        ValueError: two folders of the same name, or without a file or a metric in common; or talkers are not known.
    """
    folders = [Path(folder) for folder in folders]
    labels = [str(folder) for folder in folders]
    if len(set(labels)) < len(labels):
        raise ValueError(f"a folder is there twice: {', '.join(labels)}")
    summaries, rows = zip(*map(_read, folders), strict=True)
    shared = set.intersection(*({name for name, row in of.items() if "problem" not in row} for of in rows))
    talkers = None
    if cluster is not None and shared:
        tables = {label: {name: of[name] for name in sorted(shared)} for label, of in zip(labels, rows, strict=True)}
        talkers = talkers_of_rows(cluster, tables)
    columns, left_out = {}, {}
    for key in dict.fromkeys(key for summary in summaries for key in summary["metrics"]):
        entries = [summary["metrics"].get(key) for summary in summaries]
        lacking = [label for label, entry in zip(labels, entries, strict=True) if entry is None]
        if lacking:
            left_out[key] = f"not in {', '.join(lacking)}"
        elif any(_meaning(entry) != _meaning(entries[0]) for entry in entries):
            left_out[key] = "measured in different ways (definition, versions or models)"
        else:
            column = _compare_column(key, rows, labels, entries[0]["better"], talkers)
            if column is None:
                left_out[key] = "no file has a score in all of them"
            else:
                columns[key] = {**{part: entries[0][part] for part in ("title", "unit", "better")}, **column}
    if not columns:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in left_out.items()) or "no metric in common"
        raise ValueError(f"there is nothing to compare in {', '.join(labels)} ({reasons})")
    over = in_words(talkers and list(talkers.values()), paired=True)
    return {"systems": labels, "columns": columns, "left_out": left_out, "interval": over}


def markdown(comparison: Mapping[str, Any]) -> str:
    """The comparison as a table to paste; differences outside the noise are marked, for better or worse."""
    first, *others = comparison["systems"]
    lines = [["metric", first, *(part for label in others for part in (label, "difference")), "files"]]
    for column in comparison["columns"].values():
        unit = column["unit"]
        cells = [format.heading(column["title"], unit=unit, better=column["better"])]
        cells.append(format.mean(column["systems"][first], unit))
        for label in others:
            difference = column["differences"][label]
            mark = "" if difference["verdict"] == WITHIN else f" **{difference['verdict']}**"
            cells += [format.mean(column["systems"][label], unit), format.mean(difference, unit) + mark]
        lines.append([*cells, str(column["systems"][first]["count"])])
    text = [
        f"Differences are to {first}, over the files that all have a score for. **better** and **worse** mark "
        f"those outside the noise: their {comparison['interval']} leaves out zero.",
        "",
        *table(lines),
        "",
    ]
    text += [f"Left out: {key}, {reason}." for key, reason in comparison["left_out"].items()]
    return "\n".join(text).rstrip() + "\n"


def _compare_column(
    key: str,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    direction: str,
    talkers: Mapping[str, str] | None,
) -> dict[str, Any] | None:
    scored = ({name for name, row in of.items() if score_of(row, "extracted", key) is not None} for of in rows)
    shared = sorted(set.intersection(*scored))
    if not shared:
        return None
    scores = [[system[name]["extracted"][key] for name in shared] for system in rows]
    groups = talkers and [talkers[name] for name in shared]
    estimates = [estimate(values, groups) for values in scores]
    if None in estimates:
        return None
    differences = {}
    for label, values in zip(labels[1:], scores[1:], strict=True):
        found = paired_difference(values, scores[0], groups).as_dict()
        noise = found["low"] is None or found["low"] <= 0 <= found["high"]
        better = (found["mean"] > 0) == (direction == "higher")
        differences[label] = {**found, "verdict": WITHIN if noise else "better" if better else "worse"}
    return {
        "systems": {label: found.as_dict() for label, found in zip(labels, estimates, strict=True)},
        "differences": differences,
    }


def _meaning(entry: Mapping[str, Any]) -> tuple:
    return entry["definition"], sorted(entry["models"].values())


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    for name in ("summary.json", "metrics.jsonl"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has not been evaluated (no {name}): python evaluate.py -scp LISTS --output {folder}"
            )
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return json.loads((folder / "summary.json").read_text(encoding="utf-8")), {row["name"]: row for row in rows}
