"""A system with several values of one key of its recipe, side by side: a codec with 1, 2, 4, 8 codebooks, say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation import format
from evaluation.summary import table


def parse_each(text: str) -> tuple[str, list[str]]:
    """``codebooks=1,2,4`` -> the key, and its values.

    Raises:
        ValueError: no key, no value, or a value twice.
    """
    key, equals, values = text.partition("=")
    found = [value.strip() for value in values.split(",")]
    if not key.strip() or not equals or not all(found):
        raise ValueError(f"--each needs KEY=VALUE,VALUE,..., got {text!r}")
    if len(set(found)) < len(found):
        raise ValueError(f"--each {text}: a value is there twice")
    if unfit := [value for value in found if "/" in value or value.startswith(".")]:
        raise ValueError(f"--each names folders after its values, and cannot after {', '.join(unfit)}")
    return key.strip(), found


def bits_per_second(record: Mapping[str, Any]) -> float | None:
    """What the streams take that sound was made of, each code with as many bits as its vocabulary needs.

    Args:
        record: of the run that made it. It says so itself, or tells of the tokens.

    Returns:
        None where the record does not tell.
    """
    if "bits_per_second" in record:
        return record["bits_per_second"]
    try:
        streams = len(record["codebooks"]) - record.get("first_codebook", 0)
        return record["sample_rate"] / record["hop_length"] * streams * (record["vocab_size"] - 1).bit_length()
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def put_together(key: str, summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One result of value -> its summary.

    Returns:
        ``key``; ``columns``, name -> title, unit and direction; ``rows``, one a value: ``value``, ``bits_per_second``,
        ``files``, and name -> estimate; ``interval``, what the intervals are.
    """
    columns: dict[str, Any] = {}
    rows, intervals = [], []
    for value, summary in summaries.items():
        found = {}
        for name, column in summary["metrics"].items():
            columns.setdefault(name, {part: column[part] for part in ("title", "unit", "better", "definition")})
            found[name] = column["systems"].get("extracted")
        intervals.append(summary["interval"])
        rows.append(
            {
                "value": value,
                "bits_per_second": summary["bits_per_second"],
                "files": summary["scored"],
                "metrics": found,
                "unavailable": summary["unavailable"],
            }
        )
    return {"key": key, "columns": columns, "rows": rows, "interval": "; ".join(dict.fromkeys(intervals))}


def markdown(found: Mapping[str, Any]) -> str:
    """The same as a table to paste."""
    columns = found["columns"]
    titles = [format.heading(c["title"], unit=c["unit"], better=c["better"]) for c in columns.values()]
    lines: list[Sequence[str]] = [[found["key"], "bitrate", *titles, "files"]]
    for row in found["rows"]:
        cells = [
            format.mean(row["metrics"][name], column["unit"]) if row["metrics"].get(name) else format.NOTHING
            for name, column in columns.items()
        ]
        lines.append([row["value"], format.bitrate(row["bits_per_second"]), *cells, str(row["files"])])
    text = [*table(lines), "", f"Means over the files. Brackets: {found['interval']}.", ""]
    reasons = {name: why for row in found["rows"] for name, why in row["unavailable"].items()}
    text += [f"{name} could not run: {why}" for name, why in reasons.items()]
    return "\n".join(text).rstrip() + "\n"
