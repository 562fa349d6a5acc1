"""Faces: a row of numbers for each frame of a video of a talker, in step with 16 kHz sound."""

from __future__ import annotations

import os

import numpy as np

from data.audio import SAMPLE_RATE
from data.containers import warn_once

FRAME_RATE = 25  # a second
HOP = SAMPLE_RATE // FRAME_RATE  # samples: frame v is of samples HOP * v to HOP * (v + 1)
TOLERANCE = 5  # frames that may be missing or too many
OTHER_RATES = (23.976, 24, 29.97, 30, 50, 60)
# How much nearer, in frames, a length must be to another rate's. Lengths that were rounded at 25 are within 1 of it.
_CLEARLY = 1.5


def frames(samples: int) -> int:
    """How many frames so many samples have."""
    return -(-samples // HOP)


def fit(face: np.ndarray, samples: int, *, size: int, source: str | os.PathLike) -> np.ndarray:
    """A face in step with a recording: cut, or zero-padded at its end.

    Args:
        face: [V, size] floats at 25 frames a second.
        samples: of the recording.
        source: its file, for messages.

    Returns:
        [ceil(samples / 640), size] float32.

    Raises:
        ValueError: another shape or kind, values that are not finite, or a length that differs by more than 5 frames.
            A length within these that fits another rate clearly better is warned of.
    """
    if face.ndim != 2 or face.dtype.kind != "f":
        raise ValueError(f"{source} is no face: [frames, {size}] of floats is, this is {face.dtype} {list(face.shape)}")
    if face.shape[1] != size:
        raise ValueError(f"{source} has {face.shape[1]} numbers a frame, visual_dim is {size}")
    if not np.isfinite(face).all():
        raise ValueError(f"{source} holds values that are not finite (NaN or infinite)")
    needed, seconds = frames(samples), samples / SAMPLE_RATE
    looks_like = rate_of(len(face), samples)
    lengths = f"{source} has {len(face)} frames, where {seconds:.3f} s at {FRAME_RATE} a second are {needed}"
    hint = f"; it looks like {looks_like:g} frames a second: resample it to {FRAME_RATE}" if looks_like else ""
    if abs(len(face) - needed) > TOLERANCE:
        raise ValueError(f"{lengths}{hint or f', and they may differ by {TOLERANCE}'}")
    if looks_like:
        warn_once(lengths + hint)
    fitted = np.zeros((needed, size), dtype=np.float32)
    fitted[: len(face)] = face[:needed]
    return fitted


def rate_of(count: int, samples: int) -> float | None:
    """The rate, other than 25 a second, that a number of frames fits clearly better. None: there is none."""
    seconds = samples / SAMPLE_RATE
    best = min(OTHER_RATES, key=lambda rate: abs(count - rate * seconds))
    off = abs(count - best * seconds)
    return best if off <= 1 and abs(count - FRAME_RATE * seconds) - off >= _CLEARLY else None
