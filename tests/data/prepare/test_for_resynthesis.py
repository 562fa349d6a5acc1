"""Recordings, manifests of units and statistics of F0, by the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from data.manifest import read_manifest
from data.prepare import f0, resample, units
from data.scp import read_scp


@pytest.fixture
def speech(tmp_path):
    """Two talkers with two files each, below two folders."""
    rng = np.random.default_rng(0)
    for folder in ("one", "two"):
        for talker, pitch in (("low", 120), ("high", 220)):
            t = np.arange(9000) / 16000
            x = sum(np.sin(2 * np.pi * pitch * k * t * (1 + 0.05 * t)) / k for k in range(1, 9))
            path = tmp_path / f"raw/{folder}/{talker}_1.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, 0.2 * x / np.abs(x).max() + 1e-4 * rng.standard_normal(len(t)), 16000)
    return tmp_path


def test_a_tree_is_kept_and_padded(speech, capsys) -> None:
    sf.write(speech / "raw/one/stereo.flac", np.random.default_rng(0).standard_normal((22050, 2)) * 0.1, 44100)
    sf.write(speech / "raw/two/whole.wav", np.zeros(2560) + 0.1, 16000)
    command = ["--input", speech / "raw", "--output", speech / "wav", "--pad", 1280, "--jobs", 1]
    assert resample.main([str(x) for x in command]) == 0
    made = {str(p.relative_to(speech / "wav")): sf.info(p) for p in (speech / "wav").rglob("*.wav")}
    assert made.keys() >= {"one/low_1.wav", "two/high_1.wav", "one/stereo.wav"} and len(made) == 6
    assert {(i.samplerate, i.channels, i.frames % 1280) for i in made.values()} == {(16000, 1, 0)}
    assert made["two/whole.wav"].frames == 2560
    assert resample.main([str(x) for x in command]) == 0 and "0 files made, 6 there already" in capsys.readouterr().out
    listed = read_scp(speech / "wav/files.scp")
    assert {f"{name}.wav" for name in listed} == made.keys() and all(
        path.is_file() for path in map(Path, listed.values())
    )


def test_names_that_no_list_can_hold_are_told(speech, capsys) -> None:
    (speech / "raw/one/low_1.wav").rename(speech / "raw/one/low 1.wav")
    assert resample.main(["--input", str(speech / "raw"), "--output", str(speech / "wav"), "--jobs", "1"]) == 0
    assert "low 1" in capsys.readouterr().err and not (speech / "wav/files.scp").exists()


def test_one_bad_file_fails_alone(speech, capsys) -> None:
    (speech / "raw/one/bad.wav").write_bytes(b"no audio")
    assert resample.main(["--input", str(speech / "raw"), "--output", str(speech / "wav"), "--jobs", "1"]) == 1
    assert "bad.wav" in capsys.readouterr().err and (speech / "wav/two/low_1.wav").exists()


def test_what_is_quiet_at_the_ends_is_trimmed() -> None:
    loud = np.ones(8000) * 0.5
    found = resample.trimmed(np.concatenate([np.zeros(8000), loud, np.zeros(8000)]))
    assert 8000 <= len(found) <= 8000 + 3 * resample.WINDOW and found.max() == 0.5
    assert len(resample.trimmed(np.zeros(3000))) == 3000


def test_manifests_divide_the_files_by_the_seed(speech) -> None:
    index = {who: [f"raw/{folder}/{who}_1.wav" for folder in ("one", "two")] for who in ("low", "high")}
    (speech / "index.json").write_text(json.dumps(index))
    tokens = speech / "tokens"
    for folder in ("one", "two"):
        for who in ("low", "high"):
            path = tokens / f"raw/{folder}/{who}_1.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.arange(29, dtype=np.int16)[:, None] % 8)
    sizes = ["--valid", "0.25", "--test", "0.25"]
    for out in ("m1", "m2"):
        where = ["--utterances", speech / "index.json", "--tokens", tokens, "--output", speech / out]
        assert units.main([str(x) for x in where] + sizes) == 0
    parts = {s: read_manifest(speech / f"m1/{s}.txt", vocab_size=8, hop=320) for s in ("train", "val", "test")}
    assert {s: len(part) for s, part in parts.items()} == {"train": 2, "val": 1, "test": 1}
    assert len({one.audio for part in parts.values() for one in part}) == 4
    assert all((speech / f"m1/{s}.txt").read_text() == (speech / f"m2/{s}.txt").read_text() for s in parts)
    again = [
        "--utterances",
        speech / "index.json",
        "--tokens",
        tokens,
        "--output",
        speech / "m3",
        "--split_from",
        speech / "m1",
    ]
    assert units.main([str(x) for x in again]) == 0
    assert {one.audio for one in read_manifest(speech / "m3/val.txt")} == {one.audio for one in parts["val"]}
    names = (speech / "m1/speakers.txt").read_text().split()
    assert names == sorted({one.audio.rpartition("/")[2].split("_")[0] for one in parts["train"]})


def test_units_of_a_file_and_what_it_lacks(speech, capsys) -> None:
    (speech / "list.scp").write_text("a raw/one/low_1.wav\nb raw/one/high_1.wav\n")
    (speech / "units.txt").write_text("low_1|17 17 296\nhigh_1\t1,2,3\n")
    command = ["--utterances", speech / "list.scp", "--tokens", speech / "units.txt", "--output", speech / "m"]
    command = [str(x) for x in [*command, "--valid", 0, "--test", 0]]
    assert units.main(command) == 0
    found = {
        one.audio.rpartition("/")[2]: one.units.tolist()
        for one in read_manifest(speech / "m/train.txt", vocab_size=300)
    }
    assert found == {"low_1.wav": [17, 17, 296], "high_1.wav": [1, 2, 3]}
    (speech / "units.txt").write_text("low_1|17 17 296\n")
    assert units.main(command) == 2 and "high_1" in capsys.readouterr().err


def test_statistics_of_f0_are_kept_and_what_fails_is_named(speech, capsys) -> None:
    (speech / "raw/one/low_bad.wav").write_bytes(b"no audio")
    sf.write(speech / "raw/one/quiet_1.wav", np.zeros(4000), 16000)
    files = sorted(str(p) for p in (speech / "raw").rglob("*.wav"))
    (speech / "m.txt").write_text("\n".join(files))
    command = [
        "--manifest",
        speech / "m.txt",
        "--output",
        speech / "f0",
        "--statistics",
        speech / "f0.json",
        "--jobs",
        1,
    ]
    assert f0.main([str(x) for x in command]) == 1
    said = capsys.readouterr()
    assert "low_bad.wav" in said.err and "quiet" in said.err and "quiet_1.wav" in said.out
    found = json.loads((speech / "f0.json").read_text())
    assert set(found["speakers"]) <= {"low", "high"} and "quiet" not in found["speakers"]
    kept = {p: p.stat().st_mtime_ns for p in (speech / "f0").iterdir()}
    assert len(kept) == 5
    assert f0.main([str(x) for x in command]) == 1 and kept == {
        p: p.stat().st_mtime_ns for p in (speech / "f0").iterdir()
    }
