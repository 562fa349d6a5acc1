"""Synthetic corpus: the bytes depend on the arguments alone, and what must not meet does not."""

import hashlib
import itertools
import json
import os
import re
import shutil
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from data import audio, scp
from data.prepare import synthetic
from data.prepare.sentences import split_of, transcript
from data.prepare.sources import FormantVoices
from data.prepare.utterances import LEVEL_RANGE_DB, ROLES, plan_mixtures
from data.prepare.voices import draw_voices, num_voices, speak
from data.speakers import read_speakers

pytest.importorskip("espeakng_loader", reason="requirements-synthetic.txt is not installed")

SIZE = synthetic.Size.of(0.01, speakers=4, dev=8, test=5)


def make(folder: Path, size: synthetic.Size = SIZE, *, seed: int = 0, jobs: int = 1):
    return synthetic.make(folder, size, seed=seed, jobs=jobs)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "corpus"
    make(folder)
    return folder


@pytest.mark.slow
def test_same_bytes_whatever_the_jobs(corpus, tmp_path):
    make(tmp_path / "other", jobs=2)
    assert digests(tmp_path / "other") == digests(corpus)


def test_another_seed_is_another_corpus(corpus, tmp_path):
    make(tmp_path / "other", synthetic.Size.of(0.001, speakers=2, dev=1, test=1), seed=1)
    suffixes = (".flac", ".wav")
    one, other = ({d for name, d in digests(f).items() if name.endswith(suffixes)} for f in (corpus, tmp_path))
    assert other and not one & other


def test_the_tree_is_librispeechs(corpus):
    index = read_speakers(corpus / "train.json")
    assert list(index) == ["1001", "1002", "1003", "1004"]
    said = {}
    for path in (corpus / "train").rglob("*.trans.txt"):
        lines = (line.split(" ", 1) for line in path.read_text().splitlines())
        said |= {path.parent / f"{name}.flac": text for name, text in lines}
    listed = [path for paths in index.values() for path in paths]
    assert set(listed) == set(said) == set((corpus / "train").rglob("*.flac"))
    assert all(path.stem.split("-")[:2] == [path.parent.parent.name, path.parent.name] for path in listed)
    assert all(text == transcript(text) for text in said.values())
    seconds = sum(audio.num_samples(path) for path in listed) / audio.SAMPLE_RATE
    assert 36 <= seconds <= 36 + 4 * 9  # 0.01 h, and at most a sentence more for each
    table = (corpus / "SPEAKERS.TXT").read_text()
    assert all(f"\n{speaker} | " in table for speaker in ("1001", "5001", "7004"))


def test_paths_are_relative_so_that_the_folder_can_be_moved(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "link")
    make(Path("../link/corpus"), synthetic.Size.of(0.001, speakers=2, dev=1, test=1))
    shutil.move(tmp_path / "real" / "corpus", tmp_path / "moved")
    assert all(p.is_file() for paths in read_speakers(tmp_path / "moved/train.json").values() for p in paths)
    assert all(p.is_file() for p in scp.read_scp(tmp_path / "moved/dev/s1.scp").values())


def test_audio_is_16_bit_mono_at_16_khz_and_neither_silent_nor_clipped(corpus):
    paths = [path for path in corpus.rglob("*") if path.suffix in (".flac", ".wav")]
    assert len(paths) > 60
    for path in paths:
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        wav = audio.read(path)  # refuses what is not finite
        assert 1 < len(wav) / audio.SAMPLE_RATE < 10
        assert -36 < 20 * np.log10(wav.std()) < -18
        assert np.abs(wav).max() < 0.91


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_mixture_is_the_sum_of_its_talkers(corpus, split):
    entries = scp.read_aligned({role: corpus / split / f"{role}.scp" for role in ROLES})
    assert len(entries) == getattr(SIZE, split)
    ratios = []
    for name, paths in entries:
        assert all(path.name == name for path in paths.values())
        mixture, s1, s2 = (sf.read(paths[role], dtype="int16")[0].astype(int) for role in ("mix_clean", "s1", "s2"))
        np.testing.assert_array_equal(mixture, s1 + s2)
        ratios.append(10 * np.log10(np.square(s1).sum() / np.square(s2).sum()))
    assert max(map(abs, ratios)) <= LEVEL_RANGE_DB + 0.01
    assert min(ratios) < 0 < max(ratios)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_three_sentences_a_mixture_and_none_of_them_twice(corpus, split):
    said = json.loads((corpus / split / "transcripts.json").read_text())
    assert list(said) == list(scp.read_scp(corpus / split / "mix_clean.scp"))
    texts = [text for roles in said.values() for text in roles.values()]
    assert len(texts) == len(set(texts)) == 3 * getattr(SIZE, split)
    assert {split_of(text) for text in texts} == {split}
    for name in said:
        target, interferer = name.removesuffix(".wav").split("_")
        assert target.split("-")[0] != interferer.split("-")[0]


def test_an_enrolment_is_the_target_speaker_in_another_sentence(corpus):
    name, said = next(iter(json.loads((corpus / "dev/transcripts.json").read_text()).items()))
    voices = draw_voices("dev", 4, seed=0)
    assert said["s1"] != said["aux_s1"]
    mixture = next(m for m in plan_mixtures("dev", voices, SIZE.dev, seed=0) if m.name == name)
    expected = speak(voices[name.split("-")[0]], mixture.texts[2], seed=0)
    written = audio.read(corpus / "dev/aux_s1" / name)
    np.testing.assert_allclose(written / written.std(), expected / expected.std(), atol=0.01)


def test_sizes_follow_from_the_hours():
    assert astuple(synthetic.Size.of(0.2)) == (0.2, 16, 24, 24)
    assert astuple(synthetic.Size.of(1)) == (1.0, 40, 120, 120)
    assert astuple(synthetic.Size.of(100)) == (100.0, 1000, 200, 200)
    assert astuple(synthetic.Size.of(1, speakers=7, dev=3, test=2)) == (1.0, 7, 3, 2)
    for hours in (0.2, 1, 100):
        for split in ("dev", "test"):
            assert 4 <= synthetic.Size.of(hours).num_speakers(split, FormantVoices()) <= num_voices(split)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hours", "0"], "--hours must be positive, got 0.0"),
        (["--hours", "nan"], "--hours must be positive, got nan"),
        (["--speakers", "1"], "--speakers must be 2 to 4000.*got 1"),
        (["--speakers", "4001"], "got 4001"),
        (["--dev", "0"], "--dev must be at least 1"),
        (["--test", "-3"], "--test must be at least 1.*got -3"),
        (["--jobs", "0"], "--jobs must be at least 1"),
    ],
)
def test_arguments_that_make_no_corpus(arguments, message, tmp_path, capsys):
    assert synthetic.main(["--output", str(tmp_path / "corpus"), *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "corpus").exists()


def test_done_once_is_done(corpus, capsys):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    arguments = ["--output", str(corpus), "--hours", "0.01", "--speakers", "4", "--dev", "8", "--test", "5"]
    assert synthetic.main(arguments) == 0
    assert "there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_other_arguments_are_refused(corpus):
    with pytest.raises(ValueError, match=r"other arguments \(seed 0, not 1\): delete it, or give another --output"):
        make(corpus, seed=1)


@pytest.mark.parametrize("name", ["notes.txt", synthetic.MANIFEST])
def test_somebody_elses_folder_is_left_alone(name, tmp_path):
    (tmp_path / name).write_text("[]")
    with pytest.raises(ValueError, match="not empty, and not a corpus made here"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        make(tmp_path / "file")


def test_an_interrupted_run_can_be_run_again(corpus, tmp_path, monkeypatch, capsys):
    written = itertools.count()

    def interrupt(path, wav):
        if next(written) == 20:
            raise KeyboardInterrupt
        audio_write(path, wav)

    audio_write = audio.write
    arguments = ["--output", str(tmp_path), "--hours", "0.01", "--speakers", "4", "--dev", "8", "--test", "5"]
    arguments += ["--jobs", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(audio, "write", interrupt)
        assert synthetic.main(arguments) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert not (tmp_path / synthetic.MANIFEST).exists()
    (tmp_path / "train" / "1001" / ".1001-1-0000.x.flac").write_bytes(b"half")  # as a killed process leaves it
    with pytest.raises(ValueError, match="other arguments"):
        make(tmp_path, seed=1)
    assert synthetic.main(arguments) == 0
    assert digests(tmp_path) == digests(corpus)


def test_without_the_package_the_message_names_it_and_nothing_is_made(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert synthetic.main(["--output", str(tmp_path / "corpus")]) == 2
    assert "pip install -r requirements-synthetic.txt" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
    assert make(corpus) is None  # what is there already needs no synthesizer


def test_help_says_that_it_is_no_real_speech(capsys):
    with pytest.raises(SystemExit, match="0"):
        synthetic.main(["--help"])
    assert "Not real speech" in " ".join(capsys.readouterr().out.split())
