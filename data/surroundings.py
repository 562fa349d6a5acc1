"""Where a recording is made: a room, noise, a narrow band and a level, drawn anew for each mixture of training.

Nothing is downloaded: noises and rooms are made. The mixture becomes what a microphone in a room would have got, and
so does the enrolment, in a room of its own. The target becomes the talker's direct sound with the reflections of the
first 50 ms, without noise and at full band: early reflections make a voice louder and no less clear, and are most of
what another distance changes, while the tail, noise and a telephone's band are what tokens of clean speech lose words
to, so that they are what an extraction should leave out. All signals stay where they are in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.fft
from scipy.signal import fftconvolve

from data.audio import SAMPLE_RATE
from data.mixing import Mixed

NOISES = ("white", "pink", "speech", "babble")
Range = Sequence[float]
_TO_TAIL = (0.002, 0.008)  # seconds from the direct sound to the first reflection
_DAMPING = 4000.0  # Hz; above, reflections decay sooner: air and cloth
_TELEPHONE = (300.0, 3400.0)  # Hz
_MU = 255  # of the telephone's eight bits
_TALKERS = 5  # in babble


class Surroundings:
    """What turns clean mixtures to recordings; a pure function of the signals and the random numbers.

    Args:
        room: the share of mixtures, and of enrolments, that are in a room.
        rt60: the range of its reverberation time in seconds.
        drr_db: the range of direct to reverberant energy in dB; less is farther away.
        early_ms: reflections until then belong to the target; 0: the dry voice alone.
        noise: the share with noise.
        snr_db: the range of speech to noise in dB, over the whole mixture.
        noises: what is drawn from: ``white``, ``pink``, ``speech`` (the spectrum of speech), ``babble`` (five others of
            the corpus, who are neither in the mixture nor enrolled).
        band: the share that lacks high frequencies: half of these are cut off between 2.5 and 7 kHz, half sound as by
            telephone.
        level_db: the range of the peaks of mixture and enrolment, each drawn by itself; (0, 0): full scale, as without.

    Raises:
        ValueError: a setting that cannot work; the message names it.
    """

    def __init__(
        self,
        *,
        room: float = 0.5,
        rt60: Range = (0.15, 0.7),
        drr_db: Range = (0.0, 15.0),
        early_ms: float = 50.0,
        noise: float = 0.5,
        snr_db: Range = (5.0, 30.0),
        noises: Sequence[str] = NOISES,
        band: float = 0.15,
        level_db: Range = (-30.0, 0.0),
    ):
        for name, share in (("room", room), ("noise", noise), ("band", band)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share and must be in [0, 1], got {share}")
        self.rt60 = _range("rt60", rt60, lowest=0.05, highest=3.0)
        self.drr_db = _range("drr_db", drr_db)
        self.snr_db = _range("snr_db", snr_db)
        self.level_db = _range("level_db", level_db, highest=0.0)
        if early_ms < 0:
            raise ValueError(f"early_ms must not be negative, got {early_ms}")
        if not noises or set(noises) - set(NOISES):
            raise ValueError(f"noises must be some of {', '.join(NOISES)}, got {list(noises)}")
        self.room, self.noise, self.band = room, noise, band
        self.early = round(early_ms / 1000 * SAMPLE_RATE)
        self.noises = tuple(noises)

    def __call__(
        self, mixed: Mixed, rng: np.random.Generator, others: Callable[[int, np.random.Generator], np.ndarray]
    ) -> Mixed:
        """Put a clean mixture and its enrolment somewhere.

        Args:
            others: the speech of some other talker, so many samples of it.

        Returns:
            float32 signals of the same lengths. The peak of mixture and target together, and that of the enrolment, is
            the level drawn, or 0 where all is silent.
        """
        target, interferer = mixed.target, mixed.mixture - mixed.target
        if rng.random() < self.room:
            rt60 = rng.uniform(*self.rt60)  # one room, two places
            target, heard = self._in_room(target, rt60, rng)
            _, beside = self._in_room(interferer, rt60, rng)
        else:
            heard, beside = target, interferer
        mixture = self._recorded(heard + beside, rng, others)
        enrolment = mixed.enrolment
        if rng.random() < self.room:
            _, enrolment = self._in_room(enrolment, rng.uniform(*self.rt60), rng)
        enrolment = self._recorded(enrolment, rng, others)
        (mixture, target), (enrolment,) = (
            _to_peak(signals, rng.uniform(*self.level_db)) for signals in ((mixture, target), (enrolment,))
        )
        return Mixed(mixture, target, enrolment)

    def _in_room(self, wav: np.ndarray, rt60: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What a talker says with early reflections, and with all."""
        response = impulse_response(rt60, rng.uniform(*self.drr_db), rng)
        return _convolve(wav, response[: max(self.early, 1)]), _convolve(wav, response)

    def _recorded(self, wav: np.ndarray, rng: np.random.Generator, others: Callable) -> np.ndarray:
        """With noise and through a narrow band, or not."""
        if rng.random() < self.noise:
            kind = self.noises[rng.integers(len(self.noises))]
            snr = rng.uniform(*self.snr_db)
            made = _babble(len(wav), rng, others) if kind == "babble" else coloured(kind, len(wav), rng)
            wav = add_noise(wav, made, snr)
        if rng.random() < self.band:
            wav = _telephone(wav) if rng.random() < 0.5 else _band(wav, 0.0, rng.uniform(2500, 7000))
        return wav


def impulse_response(rt60: float, drr_db: float, rng: np.random.Generator) -> np.ndarray:
    """A room: the direct sound, 1 at 0, and a tail of noise that decays by 60 dB in ``rt60`` seconds.

    Args:
        drr_db: energy of the direct sound over that of the tail.

    Returns:
        [rt60] float32.
    """
    time = np.arange(round(rt60 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time), dtype=np.float32)
    duller = _band(tail, 0.0, _DAMPING)
    # The amplitude falls by 60 dB, which is 6.9 in its logarithm; what is above _DAMPING falls in half the time.
    tail = duller * np.exp(-6.9 * time / rt60) + (tail - duller) * np.exp(-13.8 * time / rt60)
    tail[time < rng.uniform(*_TO_TAIL)] = 0
    tail *= 10 ** (-drr_db / 20) / max(np.sqrt(np.square(tail).sum()), 1e-9)
    tail[0] = 1
    return tail.astype(np.float32)


def coloured(kind: str, length: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of one spectrum, [length] float32: ``white``, ``pink`` (-3 dB an octave), or that of ``speech``.

    The last rises to 500 Hz and falls by 9 dB an octave above it, roughly as the mean of many talkers does.
    """
    white = rng.standard_normal(length, dtype=np.float32)
    if kind == "white":
        return white
    shape = {"pink": _pink, "speech": _speech}[kind]
    return _filtered(white, shape)


def _pink(frequency: np.ndarray) -> np.ndarray:
    return np.maximum(frequency, 20.0) ** -0.5


def _speech(frequency: np.ndarray) -> np.ndarray:
    return np.minimum(frequency / 100, 1) / (1 + (frequency / 500) ** 1.5)


def add_noise(wav: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """``wav`` with noise that has so many dB less power; one of them silent: as it is."""
    powers = [np.square(signal, dtype=np.float64).mean() for signal in (wav, noise)]
    if min(powers) == 0:
        return wav
    return wav + noise * np.float32(np.sqrt(powers[0] / powers[1]) * 10 ** (-snr_db / 20))


def _babble(length: int, rng: np.random.Generator, others: Callable) -> np.ndarray:
    made = np.zeros(length, dtype=np.float32)
    for _ in range(_TALKERS):
        wav = others(length, rng)
        level = np.sqrt(np.square(wav).mean())
        made += wav / level if level > 0 else 0
    return made


def _convolve(wav: np.ndarray, response: np.ndarray) -> np.ndarray:
    return fftconvolve(wav, response)[: len(wav)].astype(np.float32)


def _band(wav: np.ndarray, low: float, high: float) -> np.ndarray:
    """What is between two frequencies, with slopes of a tenth of them."""

    def gain(frequency: np.ndarray) -> np.ndarray:
        passed = np.clip((high * 1.1 - frequency) / (high * 0.1), 0, 1)
        return passed * np.clip((frequency - low * 0.9) / (low * 0.1), 0, 1) if low > 0 else passed

    return _filtered(wav, gain)


def _filtered(wav: np.ndarray, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Without delay; ``gain`` is of frequencies in Hz. [T] float32."""
    size = scipy.fft.next_fast_len(len(wav), real=True)
    frequency = np.linspace(0, SAMPLE_RATE / 2, size // 2 + 1, dtype=np.float32)
    spectrum = scipy.fft.rfft(wav, size) * gain(frequency)
    return scipy.fft.irfft(spectrum, size)[: len(wav)].astype(np.float32)


def _telephone(wav: np.ndarray) -> np.ndarray:
    """Its band, and its eight bits on a logarithmic scale."""
    wav = _band(wav, *_TELEPHONE)
    peak = np.abs(wav).max(initial=0)
    if peak == 0:
        return wav
    compressed = np.sign(wav) * np.log1p(_MU * np.abs(wav) / peak) / np.log1p(_MU)
    rounded = np.round(compressed * 127) / 127
    return (np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(_MU)) / _MU * peak).astype(np.float32)


def _to_peak(signals: Sequence[np.ndarray], decibels: float) -> tuple[np.ndarray, ...]:
    peak = max(np.abs(signal).max(initial=0) for signal in signals)
    gain = np.float32(10 ** (decibels / 20) / peak) if peak > 0 else np.float32(1)
    return tuple(signal * gain for signal in signals)


def _range(name: str, values: Range, *, lowest: float = -np.inf, highest: float = np.inf) -> tuple[float, float]:
    if len(values) != 2 or not lowest <= values[0] <= values[1] <= highest:
        raise ValueError(f"{name} must be a range of two numbers in [{lowest}, {highest}], got {list(values)}")
    return float(values[0]), float(values[1])
