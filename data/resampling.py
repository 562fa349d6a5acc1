"""Another sample rate by windowed sinc interpolation, for rates of any ratio, at a cost that the input bounds."""

from __future__ import annotations

import math

import numpy as np
import torch
import torchaudio.functional as AF

RATES = (1000, 1_000_000)  # Hz: below, a small file would be hours of sound; above, a header is broken
_FILTER_WIDTH = 6  # zero crossings of the kernel on either side, torchaudio's default
_ROLLOFF = 0.99  # cut-off, of half the lower rate, torchaudio's default
# Above so many values torchaudio's table of kernels, one for each of its phases, is not built: for 16,001 Hz it would
# take 2 GB. 44,100 to 16,000 Hz has 75,000, 11,025 to 48,000 Hz 440,000.
_LARGEST_TABLE = 2_000_000
_BLOCK = 1 << 20  # values that are computed at once


def resampled_length(frames: int, rate: int, sample_rate: int) -> int:
    """Samples at ``sample_rate`` of ``frames`` samples at ``rate``."""
    return frames if rate == sample_rate else -(-frames * sample_rate // rate)


def span(start: int, stop: int, rate: int, sample_rate: int) -> tuple[int, int]:
    """The samples at ``rate``, from the first to before the last, that ``start`` to ``stop`` at ``sample_rate`` need.

    Where torchaudio's table is used, both are whole periods of the two rates, so that a segment is resampled as in the
    whole file. The first is never below 0; the last may be past the end of the file.
    """
    old, new = _ratio(rate, sample_rate)
    reach = _reach(old, new)
    if _has_table(old, new):
        reach += old
        first = max(0, start // new - math.ceil(reach / old)) * old
        return first, (stop // new + math.ceil(reach / old) + 1) * old
    return max(0, start * old // new - reach), stop * old // new + reach + 2


def resample(wav: np.ndarray, rate: int, sample_rate: int, *, first: int, start: int, stop: int) -> np.ndarray:
    """Samples ``start`` to ``stop`` at ``sample_rate`` of a signal of which ``wav`` are samples ``first`` and on.

    Ratios of small numbers are torchaudio's ``resample``; for others the same sum is taken for each sample by itself.

    Args:
        wav: [..., T] float32 at ``rate``, of the samples that ``span`` names; the signal is 0 outside of it.

    Returns:
        [..., stop - start] float32.
    """
    old, new = _ratio(rate, sample_rate)
    if not _has_table(old, new):
        return _interpolate(wav, old, new, first=first, start=start, stop=stop)
    made = AF.resample(torch.from_numpy(wav), rate, sample_rate, lowpass_filter_width=_FILTER_WIDTH).numpy()
    offset = first // old * new
    return made[..., start - offset : stop - offset]


def _interpolate(wav: np.ndarray, old: int, new: int, *, first: int, start: int, stop: int) -> np.ndarray:
    """The sum that torchaudio's table is made for, sample by sample: y(n) = sum over i of x(i) k(i - n * old / new)."""
    cut_off = min(old, new) * _ROLLOFF / old  # in units of half the rate of wav
    reach = _reach(old, new)
    taps = np.arange(-reach, reach + 2)
    padded = np.pad(wav, [(0, 0)] * (wav.ndim - 1) + [(reach, reach + 2)])
    made = np.zeros((*wav.shape[:-1], stop - start), dtype=np.float32)
    length, block = wav.shape[-1], max(1, _BLOCK // len(taps))
    for begin in range(start, stop, block):
        n = np.arange(begin, min(begin + block, stop))
        whole, rest = np.divmod(n * old, new)  # exact: both are whole numbers
        t = np.clip((taps - (rest / new)[:, None]) * cut_off, -_FILTER_WIDTH, _FILTER_WIDTH)
        kernel = np.sinc(t) * np.cos(t * (np.pi / (2 * _FILTER_WIDTH))) ** 2 * cut_off
        places = np.clip(whole[:, None] - first + taps + reach, 0, length + 2 * reach + 1)
        made[..., begin - start : begin - start + len(n)] = (padded[..., places] * kernel).sum(axis=-1)
    return made


def _ratio(rate: int, sample_rate: int) -> tuple[int, int]:
    divisor = math.gcd(rate, sample_rate)
    return rate // divisor, sample_rate // divisor


def _reach(old: int, new: int) -> int:
    """Samples of the old rate on either side of a place that its value depends on."""
    return math.ceil(_FILTER_WIDTH * old / (min(old, new) * _ROLLOFF))


def _has_table(old: int, new: int) -> bool:
    return new * (2 * _reach(old, new) + old) <= _LARGEST_TABLE
