"""The table that comes of it, in Markdown: written anew with each line, so that a run that is killed leaves one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Row
from utils.files import write_text

HEADINGS = ("system", "work", "plain", "here", "ratio", "of the peak", "of the bandwidth", "× real time", "note")


@dataclass(frozen=True)
class Line:
    """A line of the table: of a speed, or of what was found otherwise.

    Attributes:
        system: whose.
        work: what was done.
        found: what came of it, where that is no time.
        note: anything else.
        row: of a speed.
    """

    system: str
    work: str = ""
    found: str = ""
    note: str = ""
    row: Row | None = None

    def cells(self, peaks: Mapping[str, float]) -> list[str]:
        """Texts below ``HEADINGS``. ``peaks``: operations a second by precision, and bytes as ``bandwidth``."""
        if self.row is None:
            return [self.system, self.work, "", self.found, "", "", "", "", self.note]
        row, bandwidth = self.row, peaks.get("bandwidth")
        peak = peaks.get(row.precision)
        return [
            self.system,
            row.work,
            "" if row.baseline is None else seconds(row.baseline),
            seconds(row.ours),
            "" if row.baseline is None else f"{row.baseline / row.ours:.2f}",
            f"{100 * row.operations / row.ours / peak:.0f} %" if row.operations and peak else "",
            f"{100 * row.moved / row.ours / bandwidth:.0f} %" if row.moved and bandwidth else "",
            f"{row.audio / row.ours:.0f}" if row.audio else "",
            row.note,
        ]


class Table:
    """The lines so far, in a file.

    Args:
        path: of it.
        facts: of the machine, one a line.
    """

    def __init__(self, path: Path, facts: Sequence[str]):
        self.path = path
        self.facts = facts
        self.peaks: dict[str, float] = {}
        self.lines: list[Line] = []

    def add(self, line: Line) -> None:
        self.lines.append(line)
        print("| " + " | ".join(line.cells(self.peaks)) + " |", flush=True)
        self.write()

    def write(self) -> None:
        write_text(self.path, self.text())

    def text(self) -> str:
        """All of it."""
        rates = [f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in self.peaks.items() if name != "bandwidth"]
        measured = [f"its matrix product's measured peaks: {', '.join(rates)}"] if rates else []
        if bandwidth := self.peaks.get("bandwidth"):
            measured.append(f"its memory's measured bandwidth (a copy, read and written): {bandwidth / 1e9:.0f} GB/s")
        rows = [list(HEADINGS), ["---"] * len(HEADINGS), *(line.cells(self.peaks) for line in self.lines)]
        table = "".join("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |\n" for row in rows)
        return "".join(f"* {fact}\n" for fact in [*self.facts, *measured]) + "\n" + table


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"
