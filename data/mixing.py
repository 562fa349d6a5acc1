"""Two talkers to one mixture: levels and signal-to-interferer ratios, as pure functions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Mixed(NamedTuple):
    """Three float32 signals on one scale: their joint peak is 1, or 0 if all are silent."""

    mixture: np.ndarray
    target: np.ndarray
    enrolment: np.ndarray


def mix_published(target: np.ndarray, interferer: np.ndarray, enrolment: np.ndarray, *, draw: float) -> Mixed:
    """Mix as the published TSELM does: the target is raised by 0 to 2.5 dB, the interferer lowered by as much.

    Before that, both are divided by the larger of their two peaks, so that their natural ratio stays.

    Args:
        target, interferer: [T] float32.
        enrolment: [R] float32.
        draw: uniform in [0, 1); 2.5 dB * draw is the change of each level.
    """
    joint = _peak(target, interferer)
    up = 10 ** (draw * 5 / 2 / 20)
    return _joint_scale(_divide(target, joint) * np.float32(up), _divide(interferer, joint) / np.float32(up), enrolment)


def mix_symmetric(
    target: np.ndarray, interferer: np.ndarray, enrolment: np.ndarray, *, draw: float, range_db: float
) -> Mixed:
    """Mix at a target-to-interferer ratio uniform in [-range_db, range_db]: the target is as often quieter as louder.

    The enrolment becomes as loud as the interferer: what hears it beside the mixture then hears it at a level as in
    recordings. Levels and ratio are of powers over the samples that are not exactly 0, so the padding of a short file
    does not count.

    Args:
        target, interferer: [T] float32.
        enrolment: [R] float32.
        draw: uniform in [0, 1); the ratio is range_db * (2 * draw - 1) dB.
        range_db: in dB, not negative.
    """
    gain = np.float32(10 ** (range_db * (2 * draw - 1) / 20))
    target, interferer, enrolment = (_divide(signal, _rms(signal)) for signal in (target, interferer, enrolment))
    return _joint_scale(target * gain, interferer, enrolment)


def gain_to_ratio(target: np.ndarray, interferer: np.ndarray, ratio_db: float) -> np.float32:
    """What brings ``interferer`` to ``ratio_db`` below ``target``, by the powers of samples that are not exactly 0.

    1 where one of them is silent.
    """
    levels = _rms(target), _rms(interferer)
    return np.float32(levels[0] / levels[1] * 10 ** (-ratio_db / 20)) if min(levels) > 0 else np.float32(1)


def _joint_scale(target: np.ndarray, interferer: np.ndarray, enrolment: np.ndarray) -> Mixed:
    mixture = target + interferer
    joint = _peak(mixture, target, enrolment)
    return Mixed(_divide(mixture, joint), _divide(target, joint), _divide(enrolment, joint))


def _peak(*signals: np.ndarray) -> np.float32:
    return max(np.abs(signal).max(initial=np.float32(0)) for signal in signals)


def _rms(signal: np.ndarray) -> np.float32:
    sounding = signal[signal != 0]
    return np.sqrt(np.square(sounding, dtype=np.float64).mean()).astype(np.float32) if sounding.size else np.float32(0)


def _divide(signal: np.ndarray, level: np.float32) -> np.ndarray:
    """Silence has no level to divide by, and stays silence."""
    return signal / level if level > 0 else signal
