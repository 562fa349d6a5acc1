"""A stand-in for the features of a talker's face: what a mouth tells of loudness and sound, and of no real face."""

from __future__ import annotations

import numpy as np

from data import faces
from data.audio import SAMPLE_RATE

BANDS = ((0, SAMPLE_RATE // 2), (100, 500), (500, 1500), (1500, 3500), (3500, SAMPLE_RATE // 2))  # Hz, the whole first
FLOOR = 1e-5  # of the levels of bands, where full scale is 1
NOISE = 0.05  # of values that vary by about 1
_MATRIX_SEED = 20211104  # the same in all data sets, so that what was trained on one can be tested on another


def stand_in_face(wav: np.ndarray, *, size: int, rng: np.random.Generator) -> np.ndarray:
    """Log levels of a few bands, through a fixed random matrix, with a little noise.

    Args:
        wav: [T], 16 kHz.
        size: numbers of a frame.
        rng: of the noise.

    Returns:
        [ceil(T / 640), size] float32, at 25 frames a second.
    """
    count = faces.frames(len(wav))
    cut = np.pad(np.asarray(wav, dtype=np.float64), (0, count * faces.HOP - len(wav))).reshape(count, faces.HOP)
    power = np.square(np.abs(np.fft.rfft(cut))) * (2 / faces.HOP**2)
    power[:, 0] = 0
    frequencies = np.fft.rfftfreq(faces.HOP, 1 / SAMPLE_RATE)
    inside = [(frequencies >= low) & (frequencies <= high) for low, high in BANDS]
    levels = np.log(FLOOR + np.sqrt(np.stack([power[:, band].sum(axis=1) for band in inside], axis=1)))
    levels -= levels.mean(axis=0)
    spread = levels.std(axis=0)
    levels /= np.where(spread > 1e-6, spread, 1.0)
    matrix = np.random.default_rng(_MATRIX_SEED).standard_normal((len(BANDS), size)) / np.sqrt(len(BANDS))
    # Not a matrix product, whose last bits follow from the number of threads.
    face = (levels[:, :, None] * matrix).sum(axis=1) + NOISE * rng.standard_normal((count, size))
    return face.astype(np.float32)
