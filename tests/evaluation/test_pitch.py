"""Voicing and F0 errors of contours of known content, and of a signal against itself."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metric import Signals
from evaluation.pitch import PitchErrors, pitch_errors
from evaluation.scoring import score_one
from tests.resynthesis import wav


def contour() -> np.ndarray:
    f0 = 120 + 30 * np.sin(np.arange(200) / 9)
    f0[50:80] = f0[150:] = 0
    return f0.astype(np.float32)


def shares(target: np.ndarray, output: np.ndarray) -> tuple[float, float, float | None]:
    found = pitch_errors(target, output)
    (vde, frames), (ffe, same) = found["vde"], found["ffe"]
    assert frames == same
    return vde / frames, ffe / frames, found["f0_correlation"]


def test_a_contour_against_itself_has_no_error() -> None:
    assert shares(contour(), contour()) == (0.0, 0.0, pytest.approx(1.0))


def test_an_octave_up_is_wrong_wherever_both_are_voiced() -> None:
    f0 = contour()
    assert shares(f0, 2 * f0) == (0.0, 100 * np.mean(f0 > 0), pytest.approx(1.0))


def test_errors_of_voicing_are_of_all_frames_and_an_fth_is_a_gross_error() -> None:
    target, output = np.array([100.0, 100, 0, 0, 100]), np.array([119.0, 121, 90, 0, 0])
    vde, ffe, correlation = shares(target, output)
    assert (vde, ffe) == (40.0, 60.0)
    assert correlation is None  # the target has one F0 only
    assert shares(np.array([100.0, 0, 0]), np.array([100.0, 0, 90]))[2] is None  # voiced in both: one frame


def test_contours_may_differ_by_a_frame_and_no_more() -> None:
    f0 = contour()
    assert pitch_errors(f0, f0[:-1])["vde"] == (0.0, 199.0)
    with pytest.raises(ValueError, match="200 and 198 frames differ by more than a frame"):
        pitch_errors(f0, f0[:-2])


@pytest.mark.slow
def test_speech_against_itself_and_silence_are_scored_without_a_failure() -> None:
    speech = wav()
    frames = -(-len(speech) // 80)
    scores, reason = score_one(PitchErrors(), Signals(output=speech, target=speech))
    assert reason is None and scores["vde"] == scores["ffe"] == [0.0, frames]
    assert scores["f0_correlation"] == pytest.approx(1.0)
    nothing = np.full_like(speech, 1e-7)  # zeros are an answer of their own, and have no scores but presence
    scores, reason = score_one(PitchErrors(), Signals(output=nothing, target=speech))
    assert reason is None and scores["f0_correlation"] is None and scores["vde"][0] > 0
