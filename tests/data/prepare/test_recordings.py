"""Recordings of people: who is one talker and in which set, and that no word is in two utterances."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from data import audio, scp
from data.prepare import recordings
from data.prepare.utterances import ROLES
from data.speakers import read_index, read_speakers

LANGUAGES = ("aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh", "kk", "mm")
SIZES = ["--dev", "3", "--test", "5"]


def write_word(path: Path, frequency: float, *, seconds: float = 0.7, rate: int = 22050) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    sf.write(path, np.pad(0.3 * np.sin(2 * np.pi * frequency * time) * np.hanning(len(time)), 2000), rate)


def write_talker(folder: Path, pitch: int, *, words: int = 30, rate: int = 22050) -> None:
    for number in range(words):
        write_word(folder / f"word{number}.wav", 200 * pitch + 5 * number, rate=rate)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "games"
    for pitch, language in enumerate(LANGUAGES, 1):
        write_talker(folder / language, pitch)
    write_talker(folder / "aa_XX", 12)
    return folder


@pytest.fixture(scope="module")
def corpus(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "corpus"
    assert recordings.main(["--output", str(folder), "--source", str(source), *SIZES]) == 0
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_layout_is_that_of_synthetic_speech(corpus) -> None:
    index = read_speakers(corpus / "train.json")
    assert set(path for paths in index.values() for path in paths) == set((corpus / "train").rglob("*.flac"))
    for split, number in (("dev", 3), ("test", 5)):
        assert len(scp.read_aligned({role: corpus / split / f"{role}.scp" for role in ROLES})) == number
        assert all(path.is_file() for paths in read_index(corpus / f"{split}.json").values() for path in paths)
    for path in (*corpus.rglob("*.flac"), *corpus.rglob("*.wav")):
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert 3 <= info.duration < 8
        assert -36 < 20 * np.log10(audio.read(path).std()) < -18
    manifest = json.loads((corpus / "recordings.json").read_text())
    assert manifest["train"]["speakers"] == len(index)


def test_a_mixture_is_the_sum_of_its_talkers(corpus) -> None:
    for _, paths in scp.read_aligned({role: corpus / "test" / f"{role}.scp" for role in ROLES}):
        mixture, s1, s2 = (sf.read(paths[role], dtype="int16")[0].astype(int) for role in ("mix_clean", "s1", "s2"))
        np.testing.assert_array_equal(mixture, s1 + s2)


def test_no_word_is_in_two_utterances(source, monkeypatch) -> None:
    (talker, *_) = recordings.find_talkers([source])
    read = []
    original = recordings._read
    monkeypatch.setattr(recordings, "_read", lambda path: read.append(path) or original(path))
    assert len(recordings.utterances_of(talker, seed=0)) >= 3
    assert len(read) == len(set(read)) == 30


def test_a_mixture_is_of_the_utterances_that_its_name_tells(corpus, source) -> None:
    splits = recordings.split_talkers(recordings.find_talkers([source]))
    for name, paths in scp.read_aligned({role: corpus / "test" / f"{role}.scp" for role in ROLES}):
        (target, one, other), (interferer, third, _) = (part.split("-") for part in name.split("_"))
        assert target != interferer and one != other
        for role, speaker, number in (("s1", target, one), ("s2", interferer, third), ("aux_s1", target, other)):
            expected = recordings.utterances_of(splits["test"][speaker], seed=0)[int(number)]
            wav = audio.read(paths[role])
            assert np.corrcoef(wav, expected[: len(wav)])[0, 1] > 0.999


def test_all_of_a_language_are_in_one_set(source) -> None:
    splits = recordings.split_talkers(recordings.find_talkers([source]))
    languages = [{talker.language for talker in table.values()} for table in splits.values()]
    assert sum(map(len, languages)) == len(LANGUAGES) and min(map(len, languages)) >= 2
    assert any({"games/aa", "games/aa_XX"} <= {t.name for t in table.values()} for table in splits.values())


def test_the_set_follows_from_the_language_alone(source, tmp_path) -> None:
    before = recordings.split_talkers(recordings.find_talkers([source]))
    for pitch, language in enumerate(("aa", "ii", "jj", "ll"), 13):
        write_talker(tmp_path / "others" / language, pitch)
    after = recordings.split_talkers(recordings.find_talkers([source, tmp_path / "others"]))
    for split in before:
        names = {talker.name for talker in after[split].values()}
        assert {talker.name for talker in before[split].values()} == {n for n in names if n.startswith("games/")}


def test_copies_and_other_rates_are_left_out(tmp_path) -> None:
    write_talker(tmp_path / "x/aa", 1, words=5)
    shutil.copytree(tmp_path / "x/aa", tmp_path / "x/bb")  # as one language in two scripts
    write_word(tmp_path / "x/aa/other.wav", 900, rate=44100)
    write_talker(tmp_path / "x/cc", 2, words=5, rate=8000)
    (talker,) = recordings.find_talkers([tmp_path / "x"])
    assert talker.name == "x/aa" and [path.name for path in talker.files] == [f"word{i}.wav" for i in range(5)]


def test_folders_of_several_people_are_left_out(tmp_path) -> None:
    for name in ("klettres/de/alpha", "klettres/de/syllab", "ktuberling/sounds/ca", "ktuberling/sounds/el"):
        write_talker(tmp_path / name, len(name), words=3)
    found = recordings.find_talkers([tmp_path / "klettres", tmp_path / "ktuberling/sounds"])
    assert [talker.name for talker in found] == ["klettres/de", "ktuberling/el"]
    assert {path.parent.name for path in found[0].files} == {"syllab"}


def test_words_are_levelled_and_what_is_no_word_is_left_out(tmp_path) -> None:
    folder = tmp_path / "x/aa"
    for number, level in enumerate((0.01, 0.1, 0.9) * 3):
        time = np.arange(16000) / 16000
        folder.mkdir(parents=True, exist_ok=True)
        sf.write(folder / f"{number}.wav", level * np.sin(2 * np.pi * (500 + number) * time), 16000)
    sf.write(folder / "silent.wav", np.zeros(16000), 16000)
    sf.write(folder / "long.wav", 0.5 * np.sin(np.arange(16000 * 9) / 5), 16000)
    (talker,) = recordings.find_talkers([tmp_path / "x"])
    made = recordings.utterances_of(talker, seed=0)
    assert made and sum(map(len, made)) < 9 * 16000 * 1.4
    for wav in made:
        frames = np.square(wav[: len(wav) // 1600 * 1600]).reshape(-1, 1600).mean(axis=1)
        loud = frames[frames > 0.5 * frames.max()]
        assert loud.max() / loud.min() < 2 and len(loud) > 20


def test_same_bytes_again_and_others_by_another_seed(corpus, source, tmp_path) -> None:
    assert recordings.make(tmp_path / "again", [source], dev=3, test=5)
    assert digests(tmp_path / "again") == digests(corpus)
    assert recordings.make(corpus, [source], dev=3, test=5) is None
    assert recordings.make(tmp_path / "other", [source], dev=3, test=5, seed=1)
    flacs = [{d for n, d in digests(folder).items() if n.endswith(".flac")} for folder in (corpus, tmp_path / "other")]
    assert not flacs[0] & flacs[1]


def test_refusals(source, tmp_path, capsys) -> None:
    write_talker(tmp_path / "few/aa", 3)
    (tmp_path / "bad/aa").mkdir(parents=True)
    (tmp_path / "bad/aa/word.wav").write_bytes(b"no sound")
    (tmp_path / "empty").mkdir()
    for source_, more, message in (
        (tmp_path / "none", [], "none: apt-get install klettres-data ktuberling-data"),
        (tmp_path / "empty", [], "no recordings in"),
        (tmp_path / "few", [], "two are needed; apt-get install klettres-data ktuberling-data, or give more"),
        (tmp_path / "bad", [], "bad/aa/word.wav cannot be read"),
        (source, ["--dev", "0"], "--dev must be at least 1 mixture, got 0"),
    ):
        assert recordings.main(["--output", str(tmp_path / "out"), "--source", str(source_), *more]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
