"""LibriSpeech folders to a speaker index: what is found, what is left out, and what the exit code says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from data.prepare import librispeech
from data.speakers import read_speakers

ROOT = Path(__file__).parents[3]


def add(folder: Path, name: str, *, seconds: float = 0.5, rate: int = 16000, suffix: str = ".flac") -> Path:
    speaker, chapter, _ = name.rsplit("-", 2)
    path = folder / speaker / chapter / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.zeros(int(seconds * rate), dtype=np.float32), rate)
    return path


@pytest.fixture
def corpus(tmp_path):
    for name in ("200-7-0000", "200-7-0001", "19-198-0001", "19-198-0000", "19-227-0000", "26-495-0000"):
        add(tmp_path / "train-clean-100", name)
    for name in ("1000-1-0000", "1000-1-0001"):
        add(tmp_path / "train-clean-360", name, seconds=0.25)
    return tmp_path


def run(*args) -> int:
    return librispeech.main([str(arg) for arg in args])


def test_index_report_and_order(corpus, capsys):
    output = corpus / "train.json"
    assert run("--output", output, corpus / "train-clean-100", corpus / "train-clean-360") == 0
    index = json.loads(output.read_text())
    assert list(index) == ["1000", "19", "200", "26"]
    folder = "train-clean-100/19"
    assert index["19"] == [f"{folder}/198/19-198-000{i}.flac" for i in (0, 1)] + [f"{folder}/227/19-227-0000.flac"]
    assert list(read_speakers(output)) == ["1000", "19", "200"]
    said = capsys.readouterr().out
    assert "4 speakers, 8 utterances, 0.00 h; 1 speakers with fewer than two" in said
    assert sorted(p.name for p in corpus.iterdir()) == ["train-clean-100", "train-clean-360", "train.json"]


def test_order_of_the_folders_does_not_matter(corpus):
    folders = [corpus / "train-clean-100", corpus / "train-clean-360"]
    assert run("--output", corpus / "a.json", *folders) == 0
    assert run("--output", corpus / "b.json", *reversed(folders)) == 0
    assert (corpus / "a.json").read_bytes() == (corpus / "b.json").read_bytes()


def test_overlapping_folders_and_links_list_a_file_once(corpus):
    (corpus / "train-clean-360" / "loop").symlink_to(corpus)
    found = librispeech.scan([corpus, corpus / "train-clean-100", corpus / "train-clean-360"])
    assert (found.num_utterances, found.problems) == (8, [])


def test_hours_count_samples_at_the_files_rate(tmp_path):
    add(tmp_path, "1-1-0000", seconds=2, rate=16000)
    add(tmp_path, "1-1-0001", seconds=2, rate=8000, suffix=".wav")
    assert librispeech.scan([tmp_path]).seconds == pytest.approx(4)


def test_speaker_names_may_hold_dashes(tmp_path):
    add(tmp_path, "en-us-f3-1-0000")
    assert list(librispeech.scan([tmp_path]).speakers) == ["en-us-f3"]


def test_what_cannot_be_used_is_listed_and_left_out(corpus, capsys):
    train = corpus / "train-clean-100"
    (train / "19" / "198" / "19-198-0002.flac").write_bytes(b"not audio")
    (train / "19" / "198" / "19-198-0003.flac").write_bytes(b"")
    add(train, "19-198-0004", seconds=0, suffix=".wav")
    add(train, "19-198-0000", suffix=".wav")
    os.rename(add(train, "200-7-0009"), train / "19" / "198" / "200-7-0009.flac")
    os.rename(add(train, "200-7-0008"), train / "200" / "7" / "readme.flac")
    (train / "19" / "198" / "19-198.trans.txt").write_text("19-198-0000 HELLO")
    output = corpus / "train.json"
    assert run("--output", output, train) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out")]
    assert len(lines) == 6
    for name, reason in {
        "19-198-0002.flac": "cannot read",
        "19-198-0003.flac": "cannot read",
        "19-198-0004.wav": "no samples",
        "19-198-0000.wav": "the same utterance as",
        "200-7-0009.flac": "does not fit the folders, 19/198",
        "readme.flac": "not of the form",
    }.items():
        assert any(name in line and reason in line for line in lines), name
    assert sum(len(paths) for paths in json.loads(output.read_text()).values()) == 6


def test_strict_writes_nothing(corpus, capsys):
    (corpus / "train-clean-100" / "19" / "198" / "19-198-0002.flac").write_bytes(b"not audio")
    assert run("--strict", "--output", corpus / "train.json", corpus / "train-clean-100") == 1
    assert not (corpus / "train.json").exists()
    assert "--strict" in capsys.readouterr().err


def test_nothing_remains(tmp_path, capsys):
    for name in ("1-1-0000", "1-1-0001", "2-1-0000"):
        add(tmp_path / "corpus", name)
    assert run("--output", tmp_path / "train.json", tmp_path / "corpus") == 1
    assert not (tmp_path / "train.json").exists()
    error = capsys.readouterr().err
    assert "two speakers with two utterances" in error and str(tmp_path / "corpus") in error


@pytest.mark.parametrize("output, folder, message", [("a.json", "none", "no such folder"), ("a.pt", ".", ".json")])
def test_wrong_arguments_are_one_line(corpus, capsys, output, folder, message):
    assert run("--output", corpus / output, corpus / folder) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_folder_without_audio_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"no flac or wav file below {tmp_path}"):
        librispeech.scan([tmp_path])


def test_long_lists_of_problems_are_cut(corpus, capsys):
    for i in range(60):
        (corpus / "train-clean-100" / "19" / "198" / f"19-198-1{i:03d}.flac").touch()
    assert run("--output", corpus / "train.json", corpus / "train-clean-100") == 0
    assert "left out: 10 more" in capsys.readouterr().err


@pytest.mark.slow
def test_command_line(corpus):
    command = [sys.executable, "-m", "data.prepare.librispeech", "--output", corpus / "x.json", corpus]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "4 speakers" in done.stdout, done.stderr
