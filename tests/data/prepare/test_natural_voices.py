"""Natural voices: what must not meet does not, and talkers of a group differ in the shift alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data.prepare import kokoro
from data.prepare.natural_voices import (
    NAMES,
    NaturalVoice,
    akin,
    draw_voices,
    groups_of,
    names_of,
    sex_of,
    speak,
)
from data.prepare.sentences import SPLITS
from data.prepare.utterances import plan_mixtures
from tests.data.prepare import kokoro_stand_in

TEXT = "The old fox found the lantern near the river."


@pytest.fixture
def packages(tmp_path) -> Iterator[Path]:
    with kokoro_stand_in.installed(tmp_path):
        yield tmp_path


def test_each_of_the_54_voices_is_in_one_split() -> None:
    assert len(NAMES) == len(set(NAMES)) == 54
    assert sorted(itertools.chain.from_iterable(map(names_of, SPLITS))) == sorted(NAMES)
    assert {split: len(names_of(split)) for split in SPLITS} == {"train": 34, "dev": 8, "test": 12}


def test_held_out_voices_are_of_both_sexes_and_several_languages() -> None:
    for split in ("dev", "test"):
        names = names_of(split)
        assert [sex_of(name) for name in names].count("F") == len(names) / 2
        assert len({name[0] for name in names}) >= 3


def test_one_person_under_several_names_is_in_training() -> None:
    people = {name.split("_")[1] for name in NAMES}
    for person in people:
        if len(same := {name for name in NAMES if name.split("_")[1] == person}) > 1:
            assert same <= set(names_of("train"))


@pytest.mark.parametrize("split", SPLITS)
def test_talkers_are_of_their_splits_voices_whatever_the_seed(split: str) -> None:
    for seed in range(3):
        voices = draw_voices(split, 60, seed=seed)
        assert len(set(voices.values())) == 60
        for voice in voices.values():
            assert {name for name, *_ in voice.blend} <= set(names_of(split))
            assert {sex_of(name) for name, *_ in voice.blend} == {voice.sex}
            for shares in zip(*(shares for _, *shares in voice.blend), strict=True):
                assert sum(shares) == pytest.approx(1) and min(shares) > 0
    assert draw_voices(split, 9, seed=0) == draw_voices(split, 9, seed=0) != draw_voices(split, 9, seed=1)


def test_held_out_talkers_begin_with_the_voices_as_they_are() -> None:
    voices = list(draw_voices("test", 60, seed=0).values())
    assert {voice.blend[0][0] for voice in voices[:12]} == set(names_of("test"))
    assert all(len(voice.blend) == 1 and voice.stretch == 1 for voice in voices[:12])
    assert all(len(voice.blend) == 2 for voice in voices[12:])


@pytest.mark.parametrize("shifts", [1, 2, 3])
def test_training_groups_differ_in_the_shift_alone_and_by_enough(shifts: int) -> None:
    voices = draw_voices("train", 30, seed=0, shifts=shifts)
    groups = groups_of(voices)
    assert [len(group) for group in groups] == [shifts] * (30 // shifts)
    assert list(itertools.chain(*groups)) == list(voices)
    for group in groups:
        stretches = sorted(voice.stretch for voice in group.values())
        assert all(more / less > 1.08 for less, more in itertools.pairwise(stretches))
        assert 0.84 < stretches[0] and stretches[-1] < 1.18
    assert {voice.sex for voice in voices.values()} == {"F", "M"}


def test_talkers_with_a_voice_in_common_are_not_mixed() -> None:
    voices = draw_voices("test", 40, seed=0)
    for mixture in plan_mixtures("test", voices, 80, seed=0, akin=akin):
        assert not akin(voices[mixture.target], voices[mixture.interferer])
    assert akin(voices["7001"], voices["7001"])
    same = {"1": voices["7001"], "2": voices["7001"]}
    with pytest.raises(ValueError, match="2 test voices are too few: all are akin to 1"):
        plan_mixtures("test", same, 1, seed=0, akin=akin)


def test_a_sentence_is_said_once_for_a_group(packages, monkeypatch) -> None:
    monkeypatch.setenv("COUNT", str(packages / "count"))
    group = list(draw_voices("train", 3, seed=0).values())
    wavs = speak(group, TEXT, seed=0)
    assert (packages / "count").read_text() == "said\n"
    for voice, wav in zip(group, wavs, strict=True):
        assert wav.dtype == np.float64 and np.square(wav).mean() == pytest.approx(1)
        np.testing.assert_array_equal(speak([voice], TEXT, seed=0)[0], wav)
    assert not np.array_equal(speak(group, TEXT, seed=1)[0], wavs[0])


def test_a_shift_moves_frequency_and_length(packages) -> None:
    def spoken(source_rate: int) -> np.ndarray:
        return speak([NaturalVoice("F", (("af_heart", 1.0, 1.0),), 1.0, source_rate)], TEXT, seed=0)[0]

    lowest = [np.abs(np.fft.rfft(wav, 1 << 17))[: 8 * 400].argmax() for wav in map(spoken, (20400, 24000, 27600))]
    assert lowest[0] / lowest[1] == pytest.approx(20400 / 24000, rel=0.01)
    assert lowest[2] / lowest[1] == pytest.approx(27600 / 24000, rel=0.01)
    said = [len(wav) for wav in map(spoken, (20400, 24000))]
    assert said[0] > 1.1 * said[1]


def test_what_the_table_says_of_a_voice() -> None:
    voice = NaturalVoice("F", (("af_heart", 0.25, 0.5), ("af_sky", 0.75, 0.5)), 0.9, 26400)
    assert voice.describe() == ("0.25/0.50 af_heart + 0.75/0.50 af_sky, formants and F0 x 1.100, tempo x 0.99")
    assert voice.stretch == 26400 / kokoro.SAMPLE_RATE
