"""What the cards of pretrained systems have in common: curves and logs of trainings, files, and how all was made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from evaluation.curves import curves_svg
from evaluation.summary import table
from running.record import read_record
from utils.files import file_digest, write_text

TOLD = (".md", ".toml", ".svg", ".png", ".jsonl", ".flac", ".py", ".pyc")  # what tells of the files that are shipped


def section(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """A heading and a table, as lines."""
    return [f"## {title}", "", *table(rows), ""]


def draw_curve(
    path: Path,
    lines: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    title: str,
    levels: Mapping[str, float] | None = None,
) -> None:
    """A metric of a training over its steps, on dev and, where it is logged there, in training."""
    curve = {"dev": [(line["step"], line[metric]) for line in lines if line["kind"] == "valid"]}
    found = [line for line in lines if line["kind"] == "train" and line.get(metric) is not None]
    if found:
        curve["training"] = smooth([(line["step"], line[metric]) for line in found])
    write_text(path, curves_svg(curve, title=title, x_title="steps", y_title=metric, levels=levels))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a training's metrics.jsonl; of steps that were done again after a stop, the last ones."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return list({(line["kind"], line["step"]): line for line in lines}.values())


def write_log(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def last_valid(lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return [line for line in lines if line["kind"] == "valid"][-1]


def smooth(points: Sequence[tuple[float, float]], most: int = 100) -> list[tuple[float, float]]:
    """Means of neighbours, ``most`` of them."""
    size = max(1, -(-len(points) // most))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def file_rows(release: Path) -> list[list[str]]:
    lines = [["file", "MB", "SHA-256"]]
    for path in weights(release):
        size = f"{path.stat().st_size / 1e6:.2f}"
        lines.append([f"`{path.relative_to(release)}`", size, f"`{file_digest(path)}`"])
    return lines


def weights(release: Path) -> list[Path]:
    """The shipped files, but for the card, its pictures, examples, the logs and the code that makes them."""
    return sorted(path for path in release.rglob("*") if path.is_file() and path.suffix not in TOLD)


def how_made(folder: Path, device: str) -> str:
    """Of which voices, in how many hours, and with what."""
    data = read_record(folder / "data/synthetic.json")
    arguments, train = data["arguments"], data["train"]
    return (
        f"Data: `data.prepare.synthetic`, seed {arguments['seed']}: {train['hours']:.1f} h of {train['speakers']} "
        f"training voices; {data['dev']['mixtures']} dev mixtures of {data['dev']['speakers']} other voices and "
        f"{data['test']['mixtures']} test mixtures of {data['test']['speakers']} others; timbres and sentences of the "
        f"three are disjoint. {made_with(folder, device)}"
    )


def made_with(folder: Path, device: str) -> str:
    """In how many hours, and with what."""
    stages = json.loads((folder / "stages.json").read_text())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "speechbrain"))
    hours = sum(stage["seconds"] for stage in stages.values()) / 3600
    return f"All stages took {hours:.1f} hours on {device}, with {versions}. Seeds are those of the recipes (1234)."
