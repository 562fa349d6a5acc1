"""The toy system's card: what it says follows from the files that the making left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile as sf

from pretrained.cards import read_log
from pretrained.toy.card import TRAININGS, write_card
from tests.report import column, voice
from utils.files import file_digest

MEASURES = {"stoi": (0.7, 0.76, 0.8), "correct_talker_mel": (50.0, 96.0, 99.0), "dnsmos_ovrl": (2.1, 2.5, 2.6)}


def valid(step: int, **values: float) -> dict:
    return {"kind": "valid", "step": step, "epoch": 1, **values}


def write_log(folder: Path, lines: list[dict]) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def made(tmp_path) -> tuple[Path, Path]:
    """What make.py leaves, made up: (release, folder)."""
    release, folder = tmp_path / "release", tmp_path / "made"
    for name in ("wavlm/model.safetensors", "tselm.pth"):
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_bytes(name.encode() * 1000)
    for where, metric, _ in TRAININGS.values():
        more = {"copy_error": 80.0} if where == "tselm" else {}
        train = {"kind": "train", "step": 5, "epoch": 1, metric: 70.0}
        write_log(
            folder / where / "log", [train, valid(5, **{metric: 60.0}, **more), valid(10, **{metric: 50.0}, **more)]
        )
    for name, error in (("tokens", 71.0), ("continuous", 66.0), ("awake", 75.5)):
        write_log(folder / f"inputs/{name}/log", [valid(400, error=error, copy_error=80.0)])
    stages = {where: {"seconds": 1800.0, "done": True} for where, _, _ in TRAININGS.values()}
    (folder / "stages.json").write_text(json.dumps(stages))
    metrics = {
        name: column(name, mixture=floor, extracted=result, ceiling=ceiling)
        for name, (floor, result, ceiling) in MEASURES.items()
    }
    speed = [{"device": "two cores"}]
    summary = {"scored": 1, "metrics": metrics, "speed": speed, "systems": ["extracted", "mixture", "ceiling"]}
    summary["interval"] = "95 % bootstrap interval over 40 talkers and the files of each"
    swapped = {**summary, "metrics": {"correct_talker_mel": column("correct_talker_mel", extracted=88.0)}}
    for name, content in (("extracted", summary), ("extracted_swapped", swapped)):
        (folder / name).mkdir()
        (folder / name / "summary.json").write_text(json.dumps(content))
    (folder / "subsets.json").write_text(json.dumps([{"layers": [1, 2], "stoi": 0.712}]))
    (folder / "data/test").mkdir(parents=True)
    split = {"speakers": 4, "mixtures": 9}
    record = {"arguments": {"seed": 0}, "train": {"hours": 1.0, "speakers": 16}, "dev": split, "test": split}
    (folder / "data/synthetic.json").write_text(json.dumps(record))
    files = {role: folder / f"data/test/{role}.wav" for role in ("mix_clean", "s1", "aux_s1")}
    files |= {"extracted": folder / "extracted/a.wav", "ceiling": folder / "extracted/evaluation/ceiling/a.wav"}
    for role, path in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, voice(1.0), 16000)
        if role not in ("extracted", "ceiling"):
            (folder / f"data/test/{role}.scp").write_text(f"a.wav {path}\n")
    row = {"name": "a.wav", "extracted": {"stoi": 0.76}}
    (folder / "extracted/metrics.jsonl").write_text(json.dumps(row) + "\n")
    return release, folder


def test_it_says_what_was_reached_and_by_how_much_it_falls_short(made) -> None:
    release, folder = made
    write_card(release, folder)
    text = (release / "README.md").read_text()
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("|")}
    assert "| 0.8 | holds |" in lines["STOI of the vocoder on the target's own tokens (the ceiling)"]
    assert "| 0.95 | holds |" in lines["STOI of the extraction, as a part of the ceiling's"]
    assert "| 96 | holds |" in lines["nearer to the target than to the interferer, %"]
    assert "| 88 | short by 2 |" in lines["with the other talker's enrolment, nearer to that one, %"]
    assert "| 0.625 | holds |" in lines["dev token error, as a part of that of copying"]
    assert "75.5" in text and "| 1, 2 | 0.712 |" in text and "0.7 [0.69, 0.71]" in text
    assert "Brackets: 95 % bootstrap interval over 40 talkers and the files of each." in text
    assert "1.0 h of 16 training voices" in text and "two cores" in text


def test_digests_and_pictures_are_of_the_files(made) -> None:
    release, folder = made
    write_card(release, folder)
    text = (release / "README.md").read_text()
    for name in ("wavlm/model.safetensors", "tselm.pth"):
        assert f"`{name}` | 0.0{2 if 'wavlm' in name else 1} | `{file_digest(release / name)}`" in text
    assert (release / "example.png").read_bytes().startswith(b"\x89PNG")
    for where, _, _ in TRAININGS.values():
        assert (release / f"curves/{where}.svg").is_file()
        assert read_log(release / f"logs/{where}.jsonl") == read_log(folder / where / "log/metrics.jsonl")


def test_of_steps_that_were_done_again_the_last_ones_count(tmp_path) -> None:
    write_log(tmp_path / "log", [valid(5, error=9.0), valid(10, error=8.0), valid(10, error=7.0)])
    assert [line["error"] for line in read_log(tmp_path / "log/metrics.jsonl")] == [9.0, 7.0]
