"""Bad audio in every system: over lists it fails by name and the rest is done, in training it is named and replaced."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import soundfile as sf

from tests.torture import samples, work
from tests.torture.attack import Place, attack
from tests.torture.programs import Program
from tests.torture.systems import SYSTEMS, corpus, saved

GOOD = 4
ROLES = {"LiMuSE extracts": "mix_clean", "TSELM extracts": "mix_clean", "evaluation": "s1"}


def bad_sounds(folder: Path) -> dict[str, Path]:
    """Files that cannot be heard, each under a name that says why."""
    made = samples.files(folder, samples.WAV, ".wav", folder / "none")
    # A size too large for what follows, as a stream's recorder writes it, and blocks that nobody needs, are read.
    made = {name: path for name, path in made.items() if name not in ("a length of 4 GB", "blocks of nothing")}
    tone = 0.3 * np.sin(np.arange(8000) / 5)
    for name, wav in {
        "NaN": np.where(np.arange(8000) == 4000, np.nan, tone),
        "infinity": np.full(8000, np.inf),
    }.items():
        sf.write(folder / f"{name}.wav", wav, 16000, subtype="FLOAT")
        made[name] = folder / f"{name}.wav"
    (folder / "a folder.wav").mkdir()
    (folder / "a link.wav").symlink_to(folder / "nowhere.wav")
    os.mkfifo(folder / "a pipe.wav")
    return made | {name: folder / f"{name}.wav" for name in ("a folder", "a link", "a pipe")}


def spoilt_lists(place: Place, name: str, folder: Path, bad: dict[str, Path]) -> Path:
    """The lists of a job with good files first, and the bad ones among them in one role."""
    where = work.JOBS[name].lists(place)
    lists = [where] if where.is_file() else sorted(where.glob("*.scp"))
    spoilt = ROLES.get(name)
    first = lists[0] if where.is_file() else where / "mix_clean.scp"
    keys = [line.split(maxsplit=1)[0] for line in first.read_text().splitlines()][:GOOD]
    for path in lists:
        lines = [line.split(maxsplit=1) for line in path.read_text().splitlines()]
        there = {key: str((path.parent / file).resolve()) for key, file in lines}
        text = "".join(f"{key} {there[key]}\n" for key in keys if key in there)
        for number, file in enumerate(bad.values() if there.keys() >= set(keys) else ()):
            taken = file if spoilt in (None, path.stem) else there[keys[number % GOOD]]
            text += f"bad{number}.wav {taken}\n"
        (folder / path.name).write_text(text)
    return folder / where.name if where.is_file() else folder


@attack("audio that cannot be heard, in a list", promise="bad audio", over=work.ON_AUDIO)
def bad_in_list(place: Place, number: int, name: str) -> None:
    folder = place.fresh("run")
    (folder / "bad").mkdir(), (folder / "lists").mkdir()
    bad = bad_sounds(folder / "bad")
    lists = spoilt_lists(place, name, folder / "lists", bad)
    command = work.command(place, name, folder / "out", lists=lists)
    if name == "evaluation":
        for place_in_list in range(len(bad)):
            shutil.copy(folder / "out/item0.wav", folder / f"out/bad{place_in_list}.wav")
    program = Program(*command, said=folder / "said.txt")
    status, text = program.wait(), program.text()
    assert status == 1 and "Traceback" not in text, f"exit status {status}: {text[-3000:]}"
    told = (folder / "out/summary.json").read_text() if name == "evaluation" else text
    unnamed = [why for at, why in enumerate(bad) if f"bad{at}.wav" not in told]
    assert not unnamed, f"not named: {unnamed}"
    place.count("bad files", len(bad))
    if name != "evaluation":
        made = {Path(file).stem for file in work.results(folder / "out")}
        assert len(made) == GOOD and not any(stem.startswith("bad") for stem in made), made


@attack("audio that cannot be heard, in a training", promise="bad audio", over=["TSELM", "SpeechTokenizer"])
def bad_in_training(place: Place, number: int, name: str) -> None:
    """One file of nine: replaced or, where it is too much of an epoch, an error; in a loader as in the process."""
    folder = place.fresh("run")
    shutil.copytree(corpus(place), folder / "data")
    index = json.loads((folder / "data/train.json").read_text())
    first = folder / "data" / next(iter(index.values()))[0]
    first.write_bytes(b"this is no sound\n")
    key = {"TSELM": "tr_data_scp_path", "SpeechTokenizer": "train_path"}[name]
    ends, statuses = [], []
    for workers in (0, 1):
        run = folder / f"run{workers}"
        more = {key: folder / "data/train.json", "num_workers": workers}
        program = Program(*SYSTEMS[name].command(place, run, **more), said=run / "said.txt")
        status, text = program.wait(), program.text()
        assert status in (0, 2) and "Traceback" not in text and str(first) in text, f"{status}: {text[-3000:]}"
        warned = [line for line in text.splitlines() if str(first) in line and "is replaced" in line]
        assert len(warned) <= 1, warned
        statuses.append(status)
        ends.append(saved(run)["model"] if (run / "ckpt/last.pth").exists() else {})
    assert statuses[0] == statuses[1] and ends[0].keys() == ends[1].keys(), f"exit statuses {statuses}"
    assert all(x.equal(ends[1][key]) for key, x in ends[0].items()), "with a loader it ended otherwise"
