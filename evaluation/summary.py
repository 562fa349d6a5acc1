"""From the rows of all files to one summary, as plain values and as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata, util
from typing import Any

from evaluation import format, published, tables
from evaluation.metric import Metric
from evaluation.rows import failures, score_of
from evaluation.statistics import estimate, in_words
from utils.errors import first_few

REMARK = (
    "SI-SDR and PESQ compare sample by sample. What a vocoder makes of tokens is not aligned that closely with the "
    "target, whatever it sounds like: of such a system they say little."
)
_PACKAGES = (
    "torch",
    "torchmetrics",
    "pesq",
    "pystoi",
    "speechmos",
    "onnxruntime",
    "librosa",
    "transformers",
    "jiwer",
    "resemblyzer",
    "webrtcvad",
    "ctranslate2",
)


def summarise(
    rows: Sequence[Mapping[str, Any]],
    wanted: Mapping[str, Sequence[Metric]],
    *,
    unavailable: Mapping[str, str],
    missing_lists: Mapping[str, str],
    **more: Any,
) -> dict[str, Any]:
    """Means with intervals, counts, definitions and digests.

    Args:
        rows: one a file, in a settled order: the intervals are drawn from it. Where rows tell their talkers, the
            intervals are over these.
        wanted: system -> its metrics.
        unavailable: metric -> why it could not run.
        missing_lists: list -> what is wrong with it; among the problems, but no file.
        more: what else is to be known, put into the summary as it is.
    """
    problems = [{"name": name, "problem": problem} for name, problem in missing_lists.items()]
    problems += [{"name": row["name"], "problem": row["problem"]} for row in rows if "problem" in row]
    whole = [row for row in rows if "problem" not in row]
    talkers = [row["talker"] for row in whole] if any("talker" in row for row in whole) else None
    metrics: dict[str, Any] = {}
    for system in (system for system in format.SYSTEMS if system in wanted):
        for metric in wanted[system]:
            if metric.name in unavailable:
                continue
            failed = sum(metric.name in row.get("failed", {}).get(system, {}) for row in whole)
            for column in metric.columns:
                scored = [row for row in whole if score_of(row, system, column.name) is not None]
                scores = [score_of(row, system, column.name) for row in scored]
                entry = metrics.setdefault(
                    column.name,
                    {
                        "title": column.title,
                        "metric": metric.name,
                        "definition": column.definition,
                        "better": column.better,
                        "unit": column.unit,
                        "summary": "ratio of sums over the files" if column.is_ratio else "mean of the files",
                        "models": dict(metric.models),
                        "systems": {},
                    },
                )
                found = estimate(scores, talkers and [row["talker"] for row in scored])
                empty = {"mean": None, "low": None, "high": None, "count": 0}
                entry["systems"][system] = {**(found.as_dict() if found else empty), "failed": failed}
    return {
        "files": len(rows),
        "scored": len(whole),
        "problems": problems,
        "failures": [{**group, "count": len(group["names"])} for group in failures(whole)],
        "systems": [system for system in format.SYSTEMS if system in wanted],
        "metrics": metrics,
        "unavailable": dict(unavailable),
        "remark": REMARK if {"si_sdr", "si_sdri", "pesq"} & metrics.keys() else "",
        "interval": in_words(talkers),
        "published": published.as_dict(),
        "versions": {name: metadata.version(name) for name in _PACKAGES if util.find_spec(name)},
        **more,
    }


def markdown(summary: Mapping[str, Any]) -> str:
    """The summary as tables to paste."""
    systems = summary["systems"]
    titles = [format.SYSTEMS[system] for system in systems]
    cells = [["metric", *titles, "files"]]
    for column in summary["metrics"].values():
        means = [
            format.mean(column["systems"][s], column["unit"]) if s in column["systems"] else format.NOTHING
            for s in systems
        ]
        own = column["systems"].get("extracted", {"count": 0, "failed": 0})
        failed = f" ({own['failed']} failed)" if own["failed"] else ""
        title = format.heading(column["title"], unit=column["unit"], better=column["better"])
        cells.append([title, *means, f"{own['count']}{failed}"])
    for name, reason in summary["unavailable"].items():
        cells.append([name, f"could not run: {reason}", *[""] * (len(titles) - 1), "0"])
    lines = [f"{summary['scored']} of {summary['files']} files scored. Brackets: {summary['interval']}.", ""]
    lines += [*table(cells), ""]
    if summary.get("bits_per_second"):
        lines += [f"Bitrate: {format.bitrate(summary['bits_per_second'])}.", ""]
    if summary["remark"]:
        lines += [summary["remark"], ""]
    if problems := summary["problems"]:
        told = first_few((f"{entry['name']} ({entry['problem']})" for entry in problems), shown=10)
        lines += [f"**{len(problems)} with a problem, and without a score:** {told}", ""]
    if summary.get("presence_thresholds"):
        lines += [*table(tables.presence(summary["presence_thresholds"])), "", tables.PRESENCE_NOTE, ""]
    if summary["codebooks"]:
        lines += [*table(tables.codebooks(summary["codebooks"])), ""]
    if summary["speed"]:
        lines += [*table(tables.speed(summary["speed"])), "", tables.SPEED_NOTE, ""]
    quoted = tables.published(summary)
    if any(cell != format.NOTHING for _, cells in quoted["ours"] for cell in cells):
        cells = [["system", *quoted["columns"]], *([f"**{name}, here**", *values] for name, values in quoted["ours"])]
        cells += [[f"{name} (quoted)", *values] for name, values in quoted["quoted"]]
        lines += [*table(cells), "", quoted["source"], ""]
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; the first row is its heading."""
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]
