"""A corpus of natural voices: its layout, that it goes on where it stopped, and what it refuses. With stand-ins."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from data import audio, scp
from data.prepare import natural_voices, synthetic
from data.prepare.sources import NaturalVoices
from data.prepare.utterances import ROLES
from data.speakers import read_index, read_speakers
from tests.data.prepare import kokoro_stand_in

SIZE = synthetic.Size.of(0.01, speakers=6, dev=3, test=4)
ARGUMENTS = ["--voices", "natural", "--hours", "0.01", "--speakers", "6", "--dev", "3", "--test", "4", "--jobs", "1"]


@pytest.fixture
def packages(tmp_path, monkeypatch) -> Iterator[Path]:
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    (tmp_path / "count").touch()
    with kokoro_stand_in.installed(tmp_path / "packages"):
        yield tmp_path / "packages"


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def times_said(tmp_path: Path) -> int:
    return len((tmp_path / "count").read_text().splitlines())


def test_the_layout_is_that_of_the_other_voices(packages, tmp_path, capsys) -> None:
    assert synthetic.main(["--output", str(tmp_path / "corpus"), *ARGUMENTS]) == 0
    assert "natural synthetic speech by Kokoro-82M" in capsys.readouterr().out
    corpus = tmp_path / "corpus"
    index = read_speakers(corpus / "train.json")
    assert list(index) == [str(1001 + i) for i in range(6)]
    assert set(itertools.chain(*index.values())) == set((corpus / "train").rglob("*.flac"))
    for paths in index.values():
        assert sum(map(audio.num_samples, paths)) >= 6 * 16000  # 0.01 h for six
        assert all(path.with_name("-".join(path.stem.split("-")[:2]) + ".trans.txt").exists() for path in paths)
    for split, number in (("dev", 3), ("test", 4)):
        assert len(scp.read_aligned({role: corpus / split / f"{role}.scp" for role in ROLES})) == number
        assert read_index(corpus / f"{split}.json")
    manifest = json.loads((corpus / "synthetic.json").read_text())
    assert manifest["arguments"]["voices"] == "natural" and manifest["arguments"]["shifts"] == 3
    assert manifest["phonemes"] == "hibari-tts 0.0.1"
    table = (corpus / "SPEAKERS.TXT").read_text()
    assert all(f"\n{speaker} | " in table for speaker in ("1001", "5001", "7012"))


def test_a_group_is_said_once_and_what_is_there_is_not_said_again(packages, tmp_path, monkeypatch, capsys) -> None:
    whole = synthetic.make(tmp_path / "whole", SIZE, jobs=1, source=NaturalVoices())
    utterances = whole["train"]["utterances"]
    assert times_said(tmp_path) == utterances / 3 + 3 * (3 + 4)

    written = itertools.count()
    write = audio.write

    def interrupt(path, wav):
        if next(written) == utterances + 6:  # in the second mixture
            raise KeyboardInterrupt
        write(path, wav)

    (tmp_path / "count").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(audio, "write", interrupt)
        assert synthetic.main(["--output", str(tmp_path / "again"), *ARGUMENTS]) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert synthetic.main(["--output", str(tmp_path / "again"), *ARGUMENTS]) == 0
    assert times_said(tmp_path) == utterances / 3 + 3 * (3 + 4) + 3  # one mixture was said twice
    assert digests(tmp_path / "again") == digests(tmp_path / "whole")


@pytest.mark.slow
def test_same_bytes_whatever_the_jobs(packages, tmp_path) -> None:
    for jobs in (1, 2):
        synthetic.make(tmp_path / str(jobs), SIZE, jobs=jobs, source=NaturalVoices())
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_unfinished_with_other_packages_is_refused(packages, tmp_path, monkeypatch, capsys) -> None:
    def interrupt(*_args, **_more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(natural_voices, "resample_poly", interrupt)
        assert synthetic.main(["--output", str(tmp_path / "corpus"), *ARGUMENTS]) == 130
    path = packages / "hibari_tts-0.0.1.dist-info/METADATA"
    path.write_text(path.read_text().replace("0.0.1", "0.0.2"))
    kokoro_stand_in.forget()
    assert synthetic.main(["--output", str(tmp_path / "corpus"), *ARGUMENTS]) == 2
    assert "was made with other arguments (versions" in capsys.readouterr().err


def test_refusals(packages, tmp_path, capsys) -> None:
    output = ["--output", str(tmp_path / "corpus")]
    for arguments, message in (
        (["--voices", "natural", "--shifts", "4"], "--shifts must be 1 to 3, got 4"),
        (["--shifts", "2"], "--shifts is for --voices natural"),
        (["--kokoro-voices", "x"], "--kokoro-voices is for --voices natural"),
        (["--voices", "natural", "--kokoro-voices", str(tmp_path / "none")], "run `make natural`"),
    ):
        assert synthetic.main([*output, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "corpus").exists()


def test_other_voices_are_other_arguments(packages, tmp_path, capsys) -> None:
    assert synthetic.main(["--output", str(tmp_path / "corpus"), *ARGUMENTS]) == 0
    assert synthetic.main(["--output", str(tmp_path / "corpus"), *ARGUMENTS]) == 0
    assert "there already" in capsys.readouterr().out
    assert synthetic.main(["--output", str(tmp_path / "corpus"), *ARGUMENTS, "--shifts", "2"]) == 2
    assert "other arguments (shifts 3, not 2)" in capsys.readouterr().err
