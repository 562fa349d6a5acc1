"""Faces in step with sound: cut or padded, refused where they do not fit, warned of where another rate fits better."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from data import faces


def fit(count: int, seconds: float, size: int = 4, **more) -> np.ndarray:
    face = np.arange(1.0, count * size + 1, dtype=np.float32).reshape(count, size)
    return faces.fit(face, round(16000 * seconds), **{"size": size, "source": f"face{count}-{seconds}.npy", **more})


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (640, 1), (641, 2), (48000, 75), (47999, 75), (48001, 76)])
def test_a_frame_is_of_640_samples(samples: int, frames: int) -> None:
    assert faces.frames(samples) == frames
    assert faces.fit(np.ones((frames, 2), np.float32), samples, size=2, source="x").shape == (frames, 2)


def test_a_shorter_one_is_padded_and_a_longer_one_cut_at_the_end() -> None:
    shorter, longer = fit(7, 0.4), fit(15, 0.4)
    assert shorter.shape == longer.shape == (10, 4) and shorter.dtype == np.float32
    assert shorter[6, 3] == 28 and not shorter[7:].any()
    assert np.array_equal(longer, fit(15, 0.6)[:10])


def test_more_than_five_frames_off_is_refused_with_file_and_both_numbers() -> None:
    assert fit(80, 3.0).shape == fit(70, 3.0).shape == (75, 4)
    for count in (69, 81, 400):
        with pytest.raises(ValueError, match=rf"face{count}-3.0.npy has {count} frames, .* are 75"):
            fit(count, 3.0)


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [(23.976, 10.0), (24, 36.0), (24, 3.0), (23.976, 3.0), (29.97, 30.0), (30, 3.0), (30, 1.0), (50, 2.0), (60, 2.0)],
)
def test_another_rate_is_told_with_the_rate_also_within_the_tolerance(rate, seconds, caplog) -> None:
    count = round(rate * seconds)
    with caplog.at_level(logging.WARNING):
        try:
            fit(count, seconds, source=f"at{rate}-{seconds}.npy")
            said = caplog.text
            assert abs(count - 25 * seconds) <= 5
        except ValueError as error:
            said = str(error)
            assert abs(count - 25 * seconds) > 5
    found = faces.rate_of(count, round(16000 * seconds))
    assert abs(found - rate) <= 0.03 and f"it looks like {found:g} frames a second" in said
    assert f"at{rate}-{seconds}.npy has {count} frames" in said and f"are {round(25 * seconds)}" in said


@pytest.mark.parametrize("samples", [1, 641, 8000, 16000, 24321, 48000, 160000, 576000])
def test_lengths_that_were_rounded_at_25_are_not_suspected(samples: int) -> None:
    exact = samples / 640
    for count in {int(exact), round(exact), int(exact) + 1, faces.frames(samples)}:
        assert faces.rate_of(count, samples) is None


@pytest.mark.parametrize(
    ("face", "said"),
    [
        (np.zeros((10, 3), np.float32), "3 numbers a frame, visual_dim is 4"),
        (np.zeros(10, np.float32), r"no face: \[frames, 4\] of floats"),
        (np.zeros((10, 4), np.int64), "no face"),
        (np.full((10, 4), np.nan, np.float32), "not finite"),
    ],
)
def test_what_is_no_face_is_named(face, said) -> None:
    with pytest.raises(ValueError, match=f"some.npy .*{said}"):
        faces.fit(face, 6400, size=4, source="some.npy")
