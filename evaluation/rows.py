"""Results of every file, kept as they come: one JSON line a file, appended, so that a stopped evaluation goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from evaluation.format import SYSTEMS
from evaluation.metric import Score
from running.shard import WHOLE, Shard
from utils.files import write_text


class Rows:
    """The rows of ``metrics.jsonl``, by name. A row holds for each system its scores, why others failed, and keys::

        {"name": "a.wav", "extracted": {"stoi": 0.9, "pesq": null}, "failed": {"extracted": {"pesq": "..."}},
         "keys": {"extracted": {"files": "1f0c...", "stoi": "77ab..."}}}

    Keys say what scores are worth: ``files`` stands for the files that were compared, and a metric's key for its
    definition and models. A score is used again only under the same keys.

    Args:
        path: of the file; lines in it that are torn, as by a kill, are left out.
        shard: of the files that this run scores. A shard appends to a file of its own; all are read.
    """

    def __init__(self, path: Path, *, shard: Shard = WHOLE):
        self.path = path if shard.count == 1 else path.with_name(f"{path.stem}.{shard.index}-of-{shard.count}.jsonl")
        self._rows: dict[str, dict[str, Any]] = {}
        for file in sorted(path.parent.glob(f"{path.stem}*.jsonl")):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    row = json.loads(line)
                    self._merge(row["name"], row)
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    continue

    def missing(self, name: str, system: str, files: str, metrics: Mapping[str, str]) -> list[str]:
        """Those of the metrics (name -> key) for which there is no score."""
        keys = self._rows.get(name, {}).get("keys", {}).get(system, {})
        return [metric for metric, key in metrics.items() if keys.get("files") != files or keys.get(metric) != key]

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """Append what was found out about a file, at once."""
        self._merge(name, row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"name": name, **row}).encode() + b"\n"
        with open(self.path, "ab") as file:
            file.write(line if self._ends_with_a_line() else b"\n" + line)

    def finish(
        self,
        names: Iterable[str],
        files: Callable[[str, str], str | None],
        problems: Mapping[str, str],
        talkers: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Rewrite the file: one row for each name, in order, without scores of files that are no longer the same.

        Args:
            names: of the items that can be scored.
            files: (name, system) -> the key that its files have now.
            problems: name -> why it cannot be scored.
            talkers: name -> talker, where intervals are over talkers; kept in the rows.

        Returns:
            The rows.
        """
        rows = []
        for name in sorted({*names, *problems}):
            if name in problems:
                rows.append({"name": name, "problem": problems[name]})
                continue
            row, kept = {"name": name}, self._rows.get(name, {"keys": {}, "failed": {}})
            row |= {"talker": talkers[name]} if talkers else {}
            valid = [s for s in SYSTEMS if s in kept["keys"] and kept["keys"][s].get("files") == files(name, s)]
            row |= {system: kept[system] for system in valid}
            failed = {system: kept["failed"][system] for system in valid if kept["failed"].get(system)}
            row |= {"failed": failed} if failed else {}
            rows.append({**row, "keys": {system: kept["keys"][system] for system in valid}})
        # In one order, whatever the order was in which the parts came.
        text = "".join(json.dumps(_ordered(row)) + "\n" for row in rows)
        write_text(self.path, text)
        return [json.loads(line) for line in text.splitlines()]

    def _ends_with_a_line(self) -> bool:
        with open(self.path, "rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return True
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _merge(self, name: str, row: Mapping[str, Any]) -> None:
        mine = self._rows.setdefault(name, {"keys": {}, "failed": {}})
        for system in SYSTEMS:
            if system not in row:
                continue
            keys = row["keys"][system]
            if mine["keys"].get(system, {}).get("files") != keys["files"]:
                mine["keys"][system], mine[system], mine["failed"][system] = {}, {}, {}
            failed = row.get("failed", {}).get(system, {})
            for metric in (*keys, *failed):
                mine["failed"][system].pop(metric, None)
                mine["keys"][system].pop(metric, None)
            mine["keys"][system].update(keys)
            mine["failed"][system].update(failed)
            mine[system].update(row[system])


def score_of(row: Mapping[str, Any], system: str, column: str) -> Score | None:
    """A score in a row; None where there is none."""
    return row.get(system, {}).get(column)


def failures(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Files that a metric could not score, alike ones together, the most frequent first.

    Returns:
        ``system``, ``metric``, ``reason`` and the ``names`` of the files.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        for system, failed in row.get("failed", {}).items():
            for metric, reason in failed.items():
                found.setdefault((system, metric, reason), []).append(row["name"])
    alike = [dict(zip(("system", "metric", "reason"), key, strict=True)) | {"names": n} for key, n in found.items()]
    return sorted(alike, key=lambda group: -len(group["names"]))


def _ordered(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _ordered(dict(sorted(value.items()))) if isinstance(value, dict) else value for key, value in row.items()
    }
