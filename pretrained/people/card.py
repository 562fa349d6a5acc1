"""The card of the system for people's voices, from the files that its making left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from data import audio
from evaluation.examples import read_examples
from evaluation.media import draw_spectrograms
from pretrained.cards import file_rows, made_with, section, weights
from pretrained.toy.card import TRAININGS, draw_trainings, results, training_rows
from running.record import read_record
from utils.files import write_text

SETS = {"natural": "natural synthetic voices", "recordings": "recordings of people"}
# What was aimed at, set before the training: of natural voices, of recordings.
AIMS = {
    "right talker (log-mel), %": (97, 90),
    "STOI of the extraction over that of the target's own tokens": (0.92, 0.85),
    "STOI of the target's own tokens through the vocoder": (0.80, 0.75),
    "DNSMOS OVRL above the mixture's": (0.5, 0.4),
    "absent talker: output 40 dB below the mixture, % of files": (90, 80),
    "present talker: not silenced, %": (98, 95),
}

HEAD = """# A small system for people's voices

Encoder, codebooks, vocoder and TSELM ({size:.1f} MB, half precision), trained by this project's own recipes with
`make people` on {hours:.1f} hours of natural synthetic voices (Kokoro-82M: {voices} talkers by blends and shifts of its
voices) and {minutes:.0f} minutes of recordings of {people} people, in made rooms and noise. It gives the talker whose
voice is enrolled, at 16 kHz, spoken anew by a vocoder; where that talker is not in the mixture, silence, and it tells
how sure it is.

```bash
python inference.py --mixture MIX.wav --enrolment ENROLMENT.wav --output OUT.wav
```
"""


def write_card(release: Path, folder: Path, sets: Mapping[str, Path], recipe: Callable[[str], str]) -> None:
    """Write ``README.md``, its pictures, examples and the trainings' logs into ``release``.

    Args:
        release: the files that are shipped.
        folder: where make.py made them: stages.json, the logs, the evaluations.
        sets: the folders of the sources of speech, by name.
        recipe: the path of a recipe of that name.
    """
    logs = draw_trainings(release, folder)
    summaries = {name: read_record(folder / f"extracted/{name}/summary.json") for name in sets}
    voices, people = (
        read_record(sets["natural"] / "synthetic.json"),
        read_record(sets["recordings"] / "recordings.json"),
    )
    keep_examples(release, folder, sets)
    speeds = summaries["natural"]["speed"]
    device = speeds[-1]["device"] if speeds else "unknown"
    parts = [
        HEAD.format(
            size=sum(path.stat().st_size for path in weights(release)) / 1e6, hours=voices["train"]["hours"],
            voices=voices["train"]["speakers"], minutes=people["train"]["minutes"], people=people["train"]["speakers"],
        ),
        *section("What it reaches", aims(summaries)),
        "Talkers of the test sets are in no training, neither as they are nor blended or shifted. What was aimed at "
        "was set before the training; why it is short of that where it is, and what was tried, is in TRIED.md in "
        "pretrained/people.",
        "",
        *[line for name, summary in summaries.items() for line in measures(name, summary)],
        "## To hear and see",
        "",
        *[f"![mixture, target and extraction]({path.relative_to(release)})" for path in
          sorted((release / "examples").glob("*.png"))],
        "",
        "The best, the median and the worst file of each test set by STOI; the natural voices' are in `examples/` as "
        "sounds.",
        "",
        *section("How it was made", training_rows(folder, logs, recipe)),
        f"Data: natural voices, seed 0, {voices['dev']['mixtures']} dev mixtures of {voices['dev']['speakers']} other "
        f"voices and {voices['test']['mixtures']} test mixtures of {voices['test']['speakers']} others; recordings, "
        f"dev mixtures of {people['dev']['speakers']} other people and test mixtures of {people['test']['speakers']} "
        "others. " + made_with(folder, device),
        "",
        *[f"![{name}](curves/{where}.svg)" for name, (where, _, _) in TRAININGS.items()],
        "",
        "The lines of their logs: " + ", ".join(f"[{n}](logs/{where}.jsonl)" for n, (where, _, _) in TRAININGS.items()),
        "",
        *section("Files", file_rows(release)),
    ]  # fmt: skip
    write_text(release / "README.md", "\n".join(parts))


def aims(summaries: Mapping[str, Mapping]) -> list[list[str]]:
    """Measure, and for each set what was aimed at, what was reached, and by how much that is short."""
    lines = [["measure", *(text for name in summaries for text in (f"{SETS[name]}: aim", "reached"))]]
    reached = [reached_of(summary) for summary in summaries.values()]
    for what, wanted in AIMS.items():
        row = [what]
        for aim, found in zip(wanted, reached, strict=True):
            short = f", short by {aim - found[what]:.2g}" if found[what] < aim else ""
            row += [f"{aim:g}", f"{found[what]:.3g}{short}"]
        lines.append(row)
    return lines


def reached_of(summary: Mapping) -> dict[str, float]:
    def mean(column: str, system: str = "extracted") -> float:
        return summary["metrics"][column]["systems"][system]["mean"]

    values = (
        mean("correct_talker_mel"),
        mean("stoi") / mean("stoi", "ceiling"),
        mean("stoi", "ceiling"),
        mean("dnsmos_ovrl") - mean("dnsmos_ovrl", "mixture"),
        mean("absent_silenced"),
        100 - mean("silenced"),
    )
    return dict(zip(AIMS, values, strict=True))


def measures(name: str, summary: Mapping) -> list[str]:
    """All measures of a test set, and over what their intervals are."""
    title = f"All measures: {summary['scored']} test mixtures of {SETS[name]}"
    return [*section(title, results(summary)), f"Brackets: {summary['interval']}.", ""]


def keep_examples(release: Path, folder: Path, sets: Mapping[str, Path]) -> None:
    """Pictures of the recordings, which may not be passed on as sound, and the sounds of natural voices, which may."""
    shutil.rmtree(release / "examples", ignore_errors=True)
    for name, lists in sets.items():
        for number, example in enumerate(read_examples(lists / "test", folder / "extracted" / name, by="stoi")):
            signals = {role: example.signals[role] for role in ("mixture", "target", "extracted")}
            place = release / "examples" / f"{name}_{('best', 'median', 'worst')[number]}"
            draw_spectrograms(place.with_suffix(".png"), signals)
            if name == "natural":
                for role, wav in signals.items():
                    audio.write(Path(f"{place}_{role}.flac"), wav)
