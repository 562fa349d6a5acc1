"""Voices: that they differ, that splits share none, and that they sound as they are said to."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace

import numpy as np
import pytest

from data.audio import SAMPLE_RATE
from data.prepare.sentences import SPLITS
from data.prepare.voices import draw_voices, num_voices, speak

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="requirements-synthetic.txt is not installed"
)


@pytest.mark.parametrize("seeds", [(0, 0, 0), (3, 3, 3), (0, 1, 2)])
def test_splits_share_neither_voices_nor_timbres_whatever_their_seeds(seeds):
    voices = {split: draw_voices(split, 24, seed=seed) for split, seed in zip(SPLITS, seeds, strict=True)}
    assert sum(map(len, voices.values())) == len(set().union(*voices.values())) == 72
    timbres = [{voice.timbre for voice in voices[split].values()} for split in SPLITS]
    assert sum(map(len, timbres)) == len(set().union(*timbres))


def test_held_out_voices_differ_in_timbre_f0_or_vocal_tract():
    number = num_voices("test")
    voices = draw_voices("test", number, seed=0).values()
    # Levels of F0 are 14 to 16 % apart, give or take 3 %.
    assert len({(v.timbre, v.source_rate, round(math.log(v.f0, 1.15))) for v in voices}) > 0.95 * number
    assert [v.sex for v in voices] == ["F", "M"] * (number // 2)
    assert not any(v.formants for v in voices)


def test_every_training_voice_has_its_own_formants_and_any_f0():
    voices = list(draw_voices("train", 1000, seed=0).values())
    assert len({v.formants for v in voices}) == 1000
    moved = np.array([v.formants for v in voices])  # [1000, 6, 3] per cent
    np.testing.assert_allclose(moved.mean(axis=(0, 1)), [100, 102.5, 102.5], atol=1)
    assert moved[..., 0].min() == 93 and moved[..., 0].max() == 107
    steps = np.log2([v.f0 for v in voices if v.sex == "M"]) * 12 % 1
    assert np.histogram(steps, bins=5, range=(0, 1))[0].min() > 50  # between the levels too


@needs_espeak
def test_a_sentence_does_not_depend_on_those_before_it():
    women_and_men = list(draw_voices("train", 8, seed=0).values())
    women_and_men.append(replace(women_and_men[1], timbre="klatt4"))  # another synthesizer inside espeak-ng
    text, between = "The old baker painted a wooden ladder.", "Why did Naomi leave the harbour before breakfast?"
    first = [speak(voice, text, seed=1) for voice in women_and_men]
    for voice, one in reversed(list(zip(women_and_men, first, strict=True))):
        speak(women_and_men[0], between, seed=2)
        np.testing.assert_array_equal(speak(voice, text, seed=1), one)
    assert len({one.tobytes() for one in first}) == len(women_and_men)


@needs_espeak
@pytest.mark.parametrize("speaker", ["1001", "1002", "1003", "1004"])
def test_voices_have_the_f0_they_are_said_to_have(speaker):
    voice = draw_voices("train", 4, seed=3)[speaker]
    texts = ["The old baker painted nine wooden ladders near the river.", "My uncle moved a broken mirror in a hurry."]
    f0 = np.median(np.concatenate([_f0(speak(voice, text, seed=0)) for text in texts]))
    assert f0 == pytest.approx(voice.f0, rel=0.1)


def _f0(wav: np.ndarray, *, lowest: float = 60, highest: float = 350) -> np.ndarray:
    """F0 in Hz of the voiced frames, from the autocorrelation."""
    shortest, longest = (int(SAMPLE_RATE / f) for f in (highest, lowest))
    frames = np.lib.stride_tricks.sliding_window_view(wav, 1024)[::160]
    frames = frames[np.square(frames).mean(axis=1) > 0.1] * np.hanning(1024)  # RMS is 1
    power = np.abs(np.fft.rfft(frames, 2048)) ** 2
    similarity = np.fft.irfft(power)[:, :longest]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(1024), 2048)) ** 2)[:longest]
    similarity = similarity / similarity[:, :1] / (window / window[0])
    peak = similarity[:, shortest:].max(axis=1)
    # The first lag that is nearly as good as the best: the best may be two periods.
    lag = shortest + np.argmax(similarity[:, shortest:] > 0.95 * peak[:, None], axis=1)
    return (SAMPLE_RATE / lag)[peak > 0.8]
