"""Two microphones before a talker: what each hears, in the open or in a room.

The microphones are at (+-spacing / 2, 0), 0 at the plus; a talker is at distance * (cos azimuth, sin azimuth).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from data.audio import SAMPLE_RATE

SPEED = 343.0  # of sound, m/s
_TAIL = 64  # samples of zeros between the end of a signal and its beginning, where a delay wraps around
_HEIGHT = 1.5  # m, of microphones and mouths in a room


@dataclass(frozen=True)
class Place:
    """Where a talker is: azimuth in radians, distance in metres from the middle between the microphones."""

    azimuth: float
    distance: float

    @property
    def xy(self) -> tuple[float, float]:
        return self.distance * math.cos(self.azimuth), self.distance * math.sin(self.azimuth)

    def to_microphones(self, spacing: float) -> tuple[float, float]:
        """Metres to microphone 0 and to microphone 1."""
        x, y = self.xy
        return math.hypot(x - spacing / 2, y), math.hypot(x + spacing / 2, y)


def free_field(wav: np.ndarray, place: Place, *, spacing: float) -> np.ndarray:
    """[T] -> [2, T]: microphone 0 hears the signal itself; microphone 1 as much quieter and later as it is further.

    The delay need not be a whole number of samples, and may be below 0.
    """
    near, far = place.to_microphones(spacing)
    delay = (far - near) / SPEED * SAMPLE_RATE  # samples
    size = 1 << (len(wav) + _TAIL + math.ceil(abs(delay)) - 1).bit_length()
    turns = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * delay)
    later = np.fft.irfft(np.fft.rfft(wav, size) * turns, size)[: len(wav)]
    return np.stack([wav, near / far * later])


@dataclass(frozen=True)
class Room:
    """A box; the middle between the microphones is at ``centre``, the array along its first axis.

    Attributes:
        size: metres.
        centre: metres from a corner.
        rt60: seconds in which sound falls by 60 dB, by Sabine's formula.
    """

    size: tuple[float, float, float]
    centre: tuple[float, float, float]
    rt60: float

    @classmethod
    def draw(cls, rng: np.random.Generator, places: list[Place], *, rt60: tuple[float, float]) -> Room:
        """A room about some places, with 0.5 to 1.5 m between the outermost of them and each wall."""
        seconds, height, *margins = rng.uniform(0, 1, 6)
        reach = [[min(0.0, *axis) - 0.5, max(0.0, *axis) + 0.5] for axis in zip(*(p.xy for p in places), strict=True)]
        walls = [(low - margins[2 * i], high + margins[2 * i + 1]) for i, (low, high) in enumerate(reach)]
        size = (*(round(high - low, 3) for low, high in walls), round(2.5 + height, 3))
        centre = (*(round(-low, 3) for low, _ in walls), _HEIGHT)
        return cls(size, centre, round(rt60[0] + seconds * (rt60[1] - rt60[0]), 3))

    def hear(self, wav: np.ndarray, place: Place, *, spacing: float) -> np.ndarray:
        """[T] -> [2, T]: what both microphones hear of it, by the method of images.

        The direct sound begins at microphone 0 with the signal: neither the way to it nor the half length of the
        simulator's filters for parts of a sample comes before it.

        Raises:
            ValueError: pyroomacoustics is not installed, or no walls give such an ``rt60``.
        """
        from scipy.signal import fftconvolve

        pra = pyroomacoustics()
        try:
            absorption, order = pra.inverse_sabine(self.rt60, self.size)
        except ValueError as error:
            raise ValueError(
                f"no walls give a room of {' x '.join(map(str, self.size))} m a reverberation of {self.rt60} s: give "
                "longer ones, or nearer talkers"
            ) from error
        room = pra.ShoeBox(self.size, fs=SAMPLE_RATE, materials=pra.Material(absorption), max_order=order)
        room.set_sound_speed(SPEED)
        x, y, z = self.centre
        room.add_microphone_array(np.array([[x + spacing / 2, y, z], [x - spacing / 2, y, z]]).T)
        room.add_source([x + place.xy[0], y + place.xy[1], z])
        room.compute_rir()
        near, _ = place.to_microphones(spacing)
        lead = round(near / SPEED * SAMPLE_RATE) + pra.constants.get("frac_delay_length") // 2
        heard = [fftconvolve(wav, room.rir[i][0])[lead : lead + len(wav)] for i in range(2)]
        return np.stack([np.pad(one, (0, len(wav) - len(one))) for one in heard])


def pyroomacoustics():
    """The package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import pyroomacoustics
    except ImportError:
        raise ValueError("reverberation needs pyroomacoustics: pip install -r requirements-rooms.txt") from None
    pyroomacoustics.constants.set("num_threads", 1)  # of which the last bits of its sums follow
    return pyroomacoustics
