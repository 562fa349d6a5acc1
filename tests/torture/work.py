"""Programs over lists, of all five systems and of the evaluation: what they are given, and what must come out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from tests import codec, dpslm, limuse, resynthesis, toy
from tests.torture.attack import Place
from tests.torture.programs import run
from utils.commands import overrides

ITEMS = 12
RESULTS = ("*.wav", "*.npy", "*.jsonl", "summary.json", "summary.md")


@dataclass(frozen=True)
class Job:
    """A program over a list.

    Attributes:
        flag: that takes the list, or the folder of lists.
        arguments: ``arguments()`` gives the recipe, the weights and what else the program must be told.
        lists: ``lists(place)`` gives the list, or the folder of lists.
    """

    flag: str
    arguments: Callable[[], list[object]]
    lists: Callable[[Place], Path]


def mixtures(place: Place) -> Path:
    """A folder of lists of short mixtures, targets and enrolments."""

    def make(folder: Path) -> None:
        toy.write_corpus(folder, seconds=1.3)
        for kind in ("mix_clean", "s1", "aux_s1"):
            lines = []
            for number in range(ITEMS):
                wav, rate = sf.read(folder / f"dev/{kind}{number % 3}.wav")
                sf.write(folder / f"{kind}{number}.wav", wav[: 8000 + 400 * number], rate)
                lines.append(f"item{number}.wav {kind}{number}.wav\n")
            (folder / f"{kind}.scp").write_text("".join(lines))

    return place.once("mixtures", make)


def targets(place: Place) -> Path:
    return mixtures(place) / "s1.scp"


def two_microphones(place: Place) -> Path:
    """LiMuSE's folder of lists, each of whose mixtures is there several times."""

    def make(folder: Path) -> None:
        for kind in ("mix_clean", "aux_s1", "visual_s1"):
            lines = [
                line.split(maxsplit=1) for line in (limuse.REFERENCE / f"test/{kind}.scp").read_text().splitlines()
            ]
            text = "".join(
                f"{number}_{name} {(limuse.REFERENCE / 'test' / path).resolve()}\n"
                for number in range(ITEMS // 4)
                for name, path in lines
            )
            (folder / f"{kind}.scp").write_text(text)

    return place.once("two microphones", make)


def units(place: Place) -> Path:
    def make(folder: Path) -> None:
        for number in range(ITEMS):
            shutil.copy(dpslm.REFERENCE / f"units/utt{number % 4}.npy", folder / f"u{number}.npy")
        (folder / "units.scp").write_text("".join(f"u{number} u{number}.npy\n" for number in range(ITEMS)))

    return place.once("lists of units", make) / "units.scp"


def _tselm() -> list[object]:
    return ["-config", toy.RECIPE, "-ckpt", toy.REFERENCE / "tselm.pth", *toy.flags()]


def _limuse() -> list[object]:
    return ["-config", limuse.RECIPE, "-ckpt", limuse.checkpoint(), *limuse.flags()]


def _codec() -> list[object]:
    folder = codec.REFERENCE / "elu"
    given = overrides({"codec_config": folder / "config.json"})
    return ["-config", "config/speechtokenizer.yaml", "-ckpt", folder / "SpeechTokenizer.pt", *given]


def _resynthesis() -> list[object]:
    keys = resynthesis.overrides("quantised", f0_source="utterance", **resynthesis.encoder())
    flags = [part for key in keys for part in ("--override", key)]
    return ["-config", resynthesis.RECIPE, "-ckpt", resynthesis.REFERENCE / "quantised", "--speaker", "p1", *flags]


def _dpslm() -> list[object]:
    keys = overrides(dpslm.lm_settings())
    return ["-config", dpslm.UNIT_LM, "-ckpt", dpslm.REFERENCE / "unit_lm.pt", *keys]


def _dpslm_units() -> list[object]:
    return ["-config", dpslm.UNITS, *overrides(dpslm.unit_settings())]


JOBS = {
    "TSELM extracts": Job("-scp", _tselm, mixtures),
    "LiMuSE extracts": Job("-scp", _limuse, two_microphones),
    "SpeechTokenizer tokenizes": Job("--tokenize", _codec, targets),
    "SpeechTokenizer resynthesises": Job("--resynthesise", _codec, targets),
    "resynthesis, another voice": Job("--resynthesise", _resynthesis, targets),
    "DP-SLM makes units": Job("--tokenize", _dpslm_units, targets),
    "DP-SLM scores": Job("--score", _dpslm, units),
    "DP-SLM continues": Job("--continue", _dpslm, units),
    "evaluation": Job("-scp", lambda: ["--metrics", "si_sdr", "stoi"], mixtures),
}
ON_AUDIO = [name for name, job in JOBS.items() if job.lists is not units]


def command(place: Place, name: str, output: Path, *more: object, processes: int = 1, lists: Path | None = None):
    """The command of a job that writes to ``output``; ``lists`` stands for its own."""
    job = JOBS[name]
    program = "evaluate.py" if name == "evaluation" else "inference.py"
    if name == "evaluation" and not output.exists():
        output.mkdir(parents=True)
        for number in range(ITEMS):
            wav, rate = sf.read(mixtures(place) / f"s1{number}.wav")
            noise = 0.05 * np.random.default_rng(number).standard_normal(len(wav))
            sf.write(output / f"item{number}.wav", 0.5 * (wav + noise), rate)
    where = [job.flag, lists or job.lists(place), "--output", output, "-gpus", "cpu", "-proc", processes]
    return [program, *where, *job.arguments(), *more]


def undisturbed(place: Place, name: str) -> Path:
    """The results of a run that nothing disturbed."""

    def make(folder: Path) -> None:
        run(*command(place, name, folder / "out"), said=folder / "said.txt")

    return place.once(f"undisturbed {name}", make) / "out"


def results(folder: Path) -> dict[str, bytes]:
    """What was made, less what tells how the run went."""
    found = {path for pattern in RESULTS for path in folder.rglob(pattern)}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(found)
        if not path.name.startswith((".partial-", "journal."))
    }


def require_same_results(folder: Path, other: Path) -> None:
    """Raises AssertionError if results are missing, are too many, or differ in a byte."""
    a, b = results(folder), results(other)
    assert a, f"nothing is in {folder}"
    assert a.keys() == b.keys(), f"only in one of {folder} and {other}: {sorted(a.keys() ^ b.keys())}"
    differing = [name for name in a if _plain(name, a[name]) != _plain(name, b[name])]
    assert not differing, f"{differing} of {other} differ from those of {folder}"


def _plain(name: str, content: bytes) -> object:
    """Without what tells of the folder and of the times of its files, which an evaluation keeps."""
    if name == "metrics.jsonl":
        rows = [json.loads(line) for line in content.splitlines()]
        return [{key: value for key, value in row.items() if key != "keys"} for row in rows]
    if name == "summary.json":
        return {key: value for key, value in json.loads(content).items() if key not in ("folder", "lists")}
    return content
