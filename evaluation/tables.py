"""What the tables of a report say, as text: taken from the summary and the rows of an evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation import format
from evaluation.rows import failures

SPEED_NOTE = (
    "Work and wall clock are seconds for one second of audio. Work adds up what the processes did side by side, "
    "without loading the system; the wall clock counts the loading too. Memory is that of the largest process."
)


PRESENCE_NOTE = (
    "To choose presence_threshold by: what a threshold would do to these files, by their scores. On a test set it is "
    "too late to choose."
)


def presence(points: Sequence[Mapping[str, float]]) -> list[list[str]]:
    """What thresholds do to present and absent talkers, as lines; the first is the heading."""
    lines = [["presence_threshold", "present silenced (%)", "absent found (%)"]]
    for point in points:
        shares = (format.number(point[key], "%") for key in ("present_silenced", "absent_found"))
        lines.append([format.number(point["threshold"]), *shares])
    return lines


def codebooks(usage: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[list[str]]:
    """Codebook -> system -> ``used`` (a share) and ``perplexity``, as lines; the first is the heading."""
    systems = list(dict.fromkeys(system for of_one in usage.values() for system in of_one))
    lines = [["codebook"] + [f"{system}: {what}" for system in systems for what in ("used (%)", "perplexity")]]
    for name, of_one in usage.items():
        line = [name]
        for system in systems:
            used, perplexity = (format.value(of_one.get(system, {}).get(key)) for key in ("used", "perplexity"))
            line.append(format.number(None if used is None else 100 * used, "%"))
            line.append(format.NOTHING if perplexity is None else f"{perplexity:.1f}")
        lines.append(line)
    return lines


def speed(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """How fast the files were made, a line for each run; the first is the heading."""
    lines = [["device", "processes", "threads", "files", "audio (s)", "work", "wall clock", "memory", "GPU memory"]]
    for run in runs:
        seconds = format.value(run.get("audio_seconds"))
        lines.append(
            [str(run.get("device", format.NOTHING))]
            + [format.NOTHING if run.get(key) is None else str(run[key]) for key in ("processes", "threads")]
            + [format.count(files) if isinstance(files := run.get("files"), int) else format.NOTHING]
            + [format.NOTHING if seconds is None else f"{seconds:,.1f}"]
            + [format.number(run.get(f"{key}_seconds_per_second")) for key in ("work", "wall")]
            + [format.memory(run.get(key)) for key in ("peak_memory_bytes", "peak_gpu_bytes")]
        )
    return lines


def unscored(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What metrics could not score, with the titles of metrics and systems."""
    titles = {name: column["title"] for name, column in summary["metrics"].items()}
    return [
        {
            "metric": titles.get(group["metric"], group["metric"]),
            "system": format.SYSTEMS.get(group["system"], group["system"]),
            "reason": group["reason"],
            "files": group["names"],
        }
        for group in failures(rows)
    ]


def by_metric(columns: Mapping[str, Mapping[str, Any]]) -> list[list[tuple[str, Mapping[str, Any]]]]:
    """Columns by the metric that gives them: they use the same models."""
    groups = defaultdict(list)
    for name, column in columns.items():
        groups[column["metric"]].append((name, column))
    return list(groups.values())


def published(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The published table as text, and what was measured here for the same columns."""
    table = summary.get("published")
    if not table or not table["rows"]:
        return None
    columns = [summary["metrics"].get(key) for key in table["keys"]]
    ours = []
    for system in format.SYSTEMS:
        found = [column["systems"].get(system) if column else None for column in columns]
        if system == "extracted" or any(found):
            cells = [
                format.number(result["mean"], column["unit"]) if result else format.NOTHING
                for column, result in zip(columns, found, strict=True)
            ]
            ours.append((format.SYSTEMS[system], cells))
    return {
        "columns": table["columns"],
        "ours": ours,
        "quoted": [(name, [format.number(cell) for cell in cells]) for name, *cells in table["rows"]],
        "source": table["source"],
    }
