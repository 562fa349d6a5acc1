"""Contours: their lengths, what they are in silence, and that each is tracked once."""

from __future__ import annotations

import numpy as np
import pytest

from data.pitch import HOP, PitchTracker, at_level, f0_statistics
from tests.resynthesis import wav


def tone(samples: int, f0: float = 150.0) -> np.ndarray:
    t = np.arange(samples) / 16000
    return (0.2 * sum(np.sin(2 * np.pi * f0 * k * t) / k for k in range(1, 9))).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 79, 80, 399, 1280, 8001])
def test_there_is_a_frame_for_each_80_samples(samples: int) -> None:
    found = PitchTracker()(tone(samples))
    assert len(found.f0) == len(found.interpolated) == -(-samples // HOP)


def test_harvest_has_the_same_length_law() -> None:
    pytest.importorskip("pyworld")
    for samples in (1, 80, 8000, 8001):
        assert len(PitchTracker(tracker="harvest")(tone(samples)).f0) == -(-samples // HOP)


def test_digital_silence_is_unvoiced_and_speech_beside_it_is_not() -> None:
    speech = wav()
    found = PitchTracker()(np.concatenate([speech, np.zeros(8000, np.float32), speech])).f0
    silent = slice(len(speech) // HOP + 6, (len(speech) + 8000) // HOP - 6)
    assert not found[silent].any() and found[: silent.start].any() and found[silent.stop :].any()
    assert not PitchTracker()(np.zeros(5000, np.float32)).f0.any()


def test_a_contour_is_tracked_once_whatever_the_level(tmp_path, monkeypatch) -> None:
    first = PitchTracker(cache=tmp_path)(tone(8000))
    monkeypatch.setattr(PitchTracker, "_track", lambda *_: pytest.fail("tracked again"))
    again = PitchTracker(cache=tmp_path)(tone(8000))
    assert np.array_equal(first.f0, again.f0)
    with pytest.raises(pytest.fail.Exception):
        PitchTracker(cache=tmp_path, f0_max=600)(tone(8000))  # another range is another contour


def test_what_is_broken_in_the_folder_is_tracked_again(tmp_path) -> None:
    first = PitchTracker(cache=tmp_path)(tone(8000))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(PitchTracker(cache=tmp_path)(tone(8000)).f0, first.f0)


def test_nan_is_never_taken_for_unvoiced() -> None:
    with pytest.raises(ValueError, match="a.wav holds NaN or infinity"):
        PitchTracker()(np.array([0.1, np.nan], np.float32), what="a.wav")


def test_level_and_statistics() -> None:
    assert np.abs(at_level(0.1 * tone(800))).max() == np.float32(0.95)
    assert not at_level(np.zeros(5)).any()
    found = f0_statistics([np.array([0, 100, 200.0]), np.array([0.0])])
    assert found == {"f0_mean": 150.0, "f0_std": 50.0, "frames": 2}
    assert f0_statistics([np.zeros(4)]) is None
