"""The card of the toy system: what it is, how it was made and how well it does, from the files that its making left."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.examples import read_median
from evaluation.media import draw_spectrograms
from pretrained.cards import (
    draw_curve,
    file_rows,
    how_made,
    last_valid,
    read_log,
    section,
    weights,
    write_log,
)
from running.record import read_record
from utils.files import write_text

# name -> folder, metric, what it is, in percent or not
TRAININGS = {
    "mel units": ("mel_units", "inertia", "mean squared distance of a log-mel frame to its centre"),
    "encoder": ("encoder", "error", "hidden frames whose unit is guessed wrong, %"),
    "codebooks": ("kmeans", "inertia", "mean squared distance of a feature to its centre"),
    "vocoder": ("unit_hifigan", "stoi", "STOI of resynthesised dev speech"),
    "TSELM": ("tselm", "error", "wrong tokens, %"),
}


def write_card(release: Path, folder: Path) -> None:
    """Write ``README.md``, its pictures and the trainings' logs into ``release``.

    Args:
        release: the files that are shipped.
        folder: where make.py made them: stages.json, the logs, the evaluations.
    """
    logs = draw_trainings(release, folder)
    summary = read_record(folder / "extracted/summary.json")
    swapped = read_record(folder / "extracted_swapped/summary.json")
    subsets = json.loads((folder / "subsets.json").read_text())
    inputs = {
        name: last_valid(read_log(folder / f"inputs/{where}/log/metrics.jsonl"))
        for name, where in (
            ("tokens", "tokens"),
            ("continuous features (Hybrid)", "continuous"),
            ("tokens, encoder left in train mode as published", "awake"),
        )
    }
    draw_example(release / "example.png", folder)
    parts = [
        HEAD.format(size=sum(path.stat().st_size for path in weights(release)) / 1e6),
        *section("What it reaches", targets(summary, swapped, last_valid(logs["TSELM"]))),
        "What was aimed at was set before the training. Why it is short of that where it is, and what was tried, is in "
        "TRIED.md in pretrained/toy.",
        "",
        "The test file of median STOI:",
        "",
        "![spectrograms of mixture, target, the target's own tokens decoded, and the extraction](example.png)",
        "",
        *section(f"All measures on the test list ({summary['scored']} mixtures of held-out voices)", results(summary)),
        f"Brackets: {summary['interval']}.",
        "",
        *section("STOI of the target's own tokens, by the layers that are decoded", subset_rows(subsets)),
        *section("What the mixture enters as, and what a frozen encoder is worth", input_rows(inputs)),
        *section("How it was made", training_rows(folder, logs)),
        how_made(folder, summary["speed"][-1]["device"] if summary["speed"] else "unknown"),
        "",
        *[f"![{name}](curves/{where}.svg)" for name, (where, _, _) in TRAININGS.items()],
        "",
        "The lines of their logs: " + ", ".join(f"[{n}](logs/{where}.jsonl)" for n, (where, _, _) in TRAININGS.items()),
        "",
        *section("Files", file_rows(release)),
    ]
    write_text(release / "README.md", "\n".join(parts))


def draw_trainings(release: Path, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Write the curve and the log of each training into ``release``; name -> the lines of the log."""
    logs = {name: read_log(folder / where / "log/metrics.jsonl") for name, (where, _, _) in TRAININGS.items()}
    for name, (where, metric, what) in TRAININGS.items():
        valid = last_valid(logs[name])
        levels = {"copying": valid["copy_error"]} if "copy_error" in valid else {}
        draw_curve(release / f"curves/{where}.svg", logs[name], metric, title=f"{name}: {what}", levels=levels)
        write_log(release / f"logs/{where}.jsonl", logs[name])
    return logs


HEAD = """# A toy system that speaks

Encoder, codebooks, vocoder and TSELM ({size:.1f} MB, half precision), trained by this project's own recipes on
synthetic voices (espeak-ng) with `make toy`. It shows that every part trains, and what the system does. It knows no
real speech: formant synthesis is all it has heard, so it is of no use on recordings of people, and its numbers compare
with nothing else.

```bash
python inference.py -config config/toy/tselm.yaml -ckpt pretrained/toy/tselm.pth \\
  --mixture MIX.wav --enrolment ENROLMENT.wav --output OUT.wav
```
"""


def draw_example(path: Path, folder: Path) -> None:
    """The test file of median STOI: mixture, target, the target through the vocoder, and what was extracted."""
    signals = read_median(folder / "data/test", folder / "extracted", by="stoi").signals
    titles = {
        "mixture": "mixture",
        "target": "target",
        "ceiling": "the target's own tokens through the vocoder (ceiling)",
        "extracted": "extracted",
    }
    draw_spectrograms(path, {title: signals[role] for role, title in titles.items()})


def targets(summary: Mapping, swapped: Mapping, valid: Mapping) -> list[list[str]]:
    """Measure, what was aimed at, what was reached, and whether that is enough."""

    def mean(column: str, system: str = "extracted", of: Mapping = summary) -> float:
        return of["metrics"][column]["systems"][system]["mean"]

    rows = [
        ("STOI of the vocoder on the target's own tokens (the ceiling)", 0.75, mean("stoi", "ceiling"), False),
        ("STOI of the extraction, as a part of the ceiling's", 0.9, mean("stoi") / mean("stoi", "ceiling"), False),
        ("nearer to the target than to the interferer, %", 95, mean("correct_talker_mel"), False),
        ("with the other talker's enrolment, nearer to that one, %", 90, mean("correct_talker_mel", of=swapped), False),
        ("dev token error, as a part of that of copying", 0.7, valid["error"] / valid["copy_error"], True),
    ]
    lines = [["measure", "aim", "reached", ""]]
    for what, aim, reached, lower in rows:
        holds = reached <= aim if lower else reached >= aim
        sign = "at most" if lower else "at least"
        lines.append(
            [what, f"{sign} {aim:g}", f"{reached:.3g}", "holds" if holds else f"short by {abs(reached - aim):.2g}"]
        )
    return lines


def results(summary: Mapping) -> list[list[str]]:
    """Every measure of floor, result and ceiling, with its interval."""

    def cell(entry: Mapping | None) -> str:
        if not entry or entry["mean"] is None:
            return "–"
        return f"{entry['mean']:.3g} [{entry['low']:.3g}, {entry['high']:.3g}]"

    systems = {"mixture": "floor: the mixture", "extracted": "extracted", "ceiling": "ceiling: the target's own tokens"}
    lines = [["measure", *systems.values()]]
    for column in summary["metrics"].values():
        lines.append([column["title"], *(cell(column["systems"].get(system)) for system in systems)])
    return lines


def subset_rows(subsets: Sequence[Mapping]) -> list[list[str]]:
    return [["layers", "STOI"], *([", ".join(map(str, row["layers"])), f"{row['stoi']:.3f}"] for row in subsets)]


def input_rows(inputs: Mapping[str, Mapping]) -> list[list[str]]:
    lines = [["trained with the mixture as", "steps", "dev token error, %", "of copying, %"]]
    return lines + [[name, f"{v['step']}", f"{v['error']:.1f}", f"{v['copy_error']:.1f}"] for name, v in inputs.items()]


def training_rows(
    folder: Path, logs: Mapping[str, Sequence[Mapping]], recipe: Callable[[str], str] = "config/toy/{}.yaml".format
) -> list[list[str]]:
    """Of each part its recipe, steps, hours and what it reached."""
    stages = json.loads((folder / "stages.json").read_text())
    lines = [["part", "recipe", "steps", "hours", "at the end, on dev"]]
    for name, (where, metric, what) in TRAININGS.items():
        valid = last_valid(logs[name])
        seconds = stages[where]["seconds"]
        lines.append(
            [name, f"`{recipe(where)}`", f"{valid['step']}", f"{seconds / 3600:.2f}", f"{valid[metric]:.3g} ({what})"]
        )
    return lines
