"""Audio files: read a segment by seeking, at the rate and with the channels that are asked for; write them whole."""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soundfile as sf

from data.containers import OneSegment, decodable, incomplete, samples_in, stamped, warn_once
from data.resampling import RATES, resample, resampled_length, span
from data.writing import WRITABLE, require_writable_form, write, write_parts

__all__ = [  # with what data.writing has, so that a caller imports one module
    "SAMPLE_RATE",
    "Header",
    "header",
    "num_samples",
    "read",
    "read_microphones",
    "read_crop",
    "read_part",
    "pad",
    "why_no_speech",
    "require_speech",
    "OneSegment",
    "WRITABLE",
    "require_writable_form",
    "write",
    "write_parts",
]
SAMPLE_RATE = 16000
SHORTEST = 0.02  # seconds; in less there is no speech
# Channels cancel where their mean has less than this part of the power that independent ones would leave in it.
_CANCELLED = 0.02
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its samples (of each channel), their rate in Hz, and the number of channels."""

    samples: int
    sample_rate: int
    channels: int


def header(path: str | os.PathLike) -> Header:
    """What is in a file, as it is, without reading its sound.

    Raises:
        OSError: there is no such file, or it may not be read.
        ValueError: not audio, no samples, or fewer samples than it promises; the message names the file.
    """
    with _open(path) as file:
        return Header(file.samples, file.samplerate, file.channels)


def num_samples(path: str | os.PathLike, *, sample_rate: int = SAMPLE_RATE, nearest: bool = False) -> int:
    """Length of an audio file in samples at ``sample_rate``, from its header alone. Raises as ``header``.

    Args:
        nearest: the whole number next to its duration, the even one of two, and at least 1; else what resampling gives,
            which is rounded up.
    """
    found = header(path)
    if nearest:
        return max(1, round(Fraction(found.samples * sample_rate, found.sample_rate)))
    return resampled_length(found.samples, found.sample_rate, sample_rate)


def read(
    path: str | os.PathLike,
    *,
    start: int = 0,
    length: int | None = None,
    sample_rate: int = SAMPLE_RATE,
    channels: int | None = 1,
) -> np.ndarray:
    """Read samples ``start`` to ``start + length`` of a file (wav, flac, ogg, mp3 and others) at ``sample_rate``.

    ``start`` and ``length`` count samples at ``sample_rate``. Only the segment is decoded, and it equals the same
    segment of the whole file, whatever the file's rate. A segment that reaches past the end is shorter.

    Args:
        channels: 1: one, the mean of all that there are; if they cancel in it, the loudest, with a warning. Another
            number: the file must have so many. None: all that there are.

    Returns:
        float32, [T] of one channel, [C, T] of several, T <= length.

    Raises:
        OSError: there is no such file, or it may not be read.
        ValueError: not audio, no samples, fewer than it promises, samples that are not finite, a rate that cannot be
            converted, or another number of channels; the message names the file.
    """
    with _open(path) as file:
        return _read_segment(file, path, start, length, sample_rate, channels)


def read_microphones(
    path: str | os.PathLike, *, count: int = 1, start: int = 0, length: int | None = None
) -> np.ndarray:
    """The channels of a recording with ``count`` microphones, as they are: [count, T] float32 at 16 kHz.

    ``count`` 1 takes the first channel of any file, where ``read`` takes the mean. The rest is as for ``read``.
    """
    wav = read(path, start=start, length=length, channels=None if count == 1 else count)
    return np.atleast_2d(wav)[:count]


def read_crop(
    path: str | os.PathLike,
    *,
    length: int,
    position: float,
    sample_rate: int = SAMPLE_RATE,
    channels: int | None = 1,
) -> np.ndarray:
    """Read ``length`` samples from the place that ``position`` in [0, 1) chooses, zero-padded at the end if shorter.

    A uniform ``position`` gives every possible start the same chance. For ``channels`` and errors see ``read``.

    Returns:
        float32, [length] or [C, length].
    """
    wav = read_part(path, length=length, position=position, sample_rate=sample_rate, channels=channels)
    return pad(wav, length)


def read_part(
    path: str | os.PathLike,
    *,
    length: int,
    position: float,
    sample_rate: int = SAMPLE_RATE,
    channels: int | None = 1,
) -> np.ndarray:
    """The same without padding: all of a file that is shorter. float32, [T] or [C, T], T <= length."""
    with _open(path) as file:
        total = resampled_length(file.samples, file.samplerate, sample_rate)
        start = int(position * (max(total - length, 0) + 1))
        return _read_segment(file, path, start, length, sample_rate, channels)


def pad(wav: np.ndarray, length: int) -> np.ndarray:
    """``wav`` [..., T], T <= length, with zeros at its end: [..., length]. The same array where none are missing."""
    missing = length - wav.shape[-1]
    return wav if missing == 0 else np.pad(wav, [(0, 0)] * (wav.ndim - 1) + [(0, missing)])


def why_no_speech(wav: np.ndarray, *, sample_rate: int = SAMPLE_RATE) -> str | None:
    """Why there can be no speech in a signal [..., T]: too short, silent, or constant. None: there may be some.

    Of a whole file, this is what an enrolment or what is to be scored must not be.
    """
    samples = wav.shape[-1]
    if samples < SHORTEST * sample_rate:
        return f"has only {samples} samples ({1000 * samples / sample_rate:.1f} ms)"
    if not wav.any():
        return "is silent: all samples are 0"
    if (wav == wav[..., :1]).all():
        return f"is no sound: all samples of a channel are the same, {wav.flat[0]:.4g}"
    return None


def require_speech(wav: np.ndarray, path: str | os.PathLike, *, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """``wav`` itself.

    Raises:
        ValueError: there can be no speech in it, see ``why_no_speech``; the message names ``path``.
    """
    if reason := why_no_speech(wav, sample_rate=sample_rate):
        raise ValueError(f"{path} {reason}")
    return wav


def _open(path: str | os.PathLike) -> OneSegment:
    if not os.path.isfile(path):
        raise _not_a_file(path)
    try:
        file = OneSegment(os.fsencode(path))  # as bytes: a name need not be UTF-8
    except sf.SoundFileError as error:
        with open(path, "rb") as bare:  # a file that may not be read says so here
            try:
                empty = not bare.read(1)
            except OSError as fault:  # of the disk; it does not say of which file
                raise OSError(fault.errno, fault.strerror, os.fspath(path)) from error
        reason = "the file is empty" if empty else str(error).removeprefix(f"Error opening {os.fsencode(path)!r}: ")
        raise ValueError(
            f"cannot read {path} as audio ({reason or 'its header is broken'}); wav, flac, ogg and mp3 files are read"
        ) from error
    try:
        if not RATES[0] <= file.samplerate <= RATES[1]:
            raise ValueError(f"{path} says {file.samplerate} Hz; rates of {RATES[0]} to {RATES[1]} Hz are read")
        file.samples = samples_in(file, path)
        if file.samples == 0:
            raise ValueError(f"{path} holds no samples")
    except BaseException:
        file.close()
        raise
    return file


def _not_a_file(path: str | os.PathLike) -> OSError:
    if os.path.isdir(path):
        return IsADirectoryError(f"{path} is a folder, not an audio file")
    if os.path.islink(path):
        return FileNotFoundError(f"no such audio file: {path} is a link to {os.readlink(path)}, which is not there")
    if os.path.exists(path):
        return FileNotFoundError(f"{path} is no file on a disk, and cannot be read as audio")
    return FileNotFoundError(f"no such audio file: {path}")


def _read_segment(
    file: OneSegment, path, start: int, length: int | None, sample_rate: int, channels: int | None
) -> np.ndarray:
    if channels not in (None, 1, file.channels):
        raise ValueError(f"{path} has {file.channels} channel{'s' * (file.channels > 1)}, {channels} are needed")
    folds = channels == 1 and file.channels > 1
    if folds or file.samplerate != sample_rate:
        _say_once(file.samplerate, file.channels, sample_rate, "mono" if channels == 1 else "", str(path))
    if file.samplerate == sample_rate:
        wav = _decode(file, path, start, length)
        wav = _fold(wav, path) if folds else wav.T
    else:
        total = resampled_length(file.samples, file.samplerate, sample_rate)
        stop = total if length is None else min(start + length, total)
        start = min(start, stop)
        first, last = span(start, stop, file.samplerate, sample_rate) if start < stop else (0, 0)
        wav = _decode(file, path, first, last - first)
        wav = np.ascontiguousarray(_fold(wav, path) if folds else wav.T)
        if start < stop:
            wav = resample(wav, file.samplerate, sample_rate, first=first, start=start, stop=stop)
    if not np.isfinite(wav).all():
        raise ValueError(f"{path} holds samples that are not finite (NaN or infinite)")
    if wav.size and wav.flat[0] == wav.flat[-1]:
        _say_if_constant(wav, path, sample_rate, is_whole=start == 0 and (length is None or wav.shape[-1] < length))
    return wav


def _decode(file: OneSegment, path, start: int, length: int | None) -> np.ndarray:
    """Samples of a file at its own rate: [T], or [T, C] of several channels."""
    start = min(start, file.samples)
    wanted = file.samples - start if length is None else min(length, file.samples - start)
    if wanted == 0:  # some forms cannot seek to their end
        return np.zeros((0, file.channels)[: 1 + (file.channels > 1)], dtype=np.float32)
    try:
        file.go_to(start)
        wav = file.read(wanted, dtype="float32")
    except (sf.SoundFileError, MemoryError) as error:  # memory is asked for as the header says
        if (held := decodable(path)) < file.samples:
            raise incomplete(path, file.samples, held) from error
        if isinstance(error, MemoryError):
            raise
        raise ValueError(f"cannot decode {path}: {error}") from error
    if len(wav) < wanted:
        raise incomplete(path, file.samples, decodable(path))
    return wav


def _fold(wav: np.ndarray, path) -> np.ndarray:
    """[T, C] to [T]."""
    loudest = _loudest_if_cancelling(*stamped(path))
    return wav.mean(axis=1) if loudest is None else np.ascontiguousarray(wav[:, loudest])


@functools.lru_cache(maxsize=1 << 16)
def _loudest_if_cancelling(path: str, size: int, changed: int) -> int | None:
    """The loudest channel of a file in whose mean they cancel (one of two turned over, say); None of all others.

    It is the same for all segments of a file: eight half seconds of it are compared, and kept while it does not change.
    """
    with _open(path) as file:
        window = max(file.samplerate // 2, 1)
        places = {i * max(file.samples - window, 0) // 7 for i in range(8)}
        windows = [_decode(file, path, place, window).astype(np.float64) for place in sorted(places)]
    power = sum(np.square(wav).sum(axis=0) for wav in windows)
    mean_power = sum(np.square(wav.mean(axis=1)).sum() for wav in windows)
    if not mean_power < _CANCELLED * power.mean() / len(power):
        return None
    loudest = int(power.argmax())
    warn_once(f"{path}: its {len(power)} channels cancel in their mean; channel {loudest + 1} is taken, the loudest")
    return loudest


def _say_if_constant(wav: np.ndarray, path, sample_rate: int, *, is_whole: bool) -> None:
    """Say that a long segment is one value throughout: no sound is so, but for silence between words."""
    if (is_whole or wav.shape[-1] >= sample_rate and wav.flat[0] != 0) and (wav == wav.flat[0]).all():
        which = "all" if is_whole else f"{wav.shape[-1]} in a row"
        warn_once(f"{path} has no sound in it: its samples, {which}, are {wav.flat[0]:.4g}")


_said: set[tuple[int, int, int, str]] = set()


def _say_once(rate: int, channels: int, sample_rate: int, how: str, path: str) -> None:
    """Say once per kind of file, and per process, that audio is converted."""
    if (rate, channels, sample_rate, how) not in _said:
        _said.add((rate, channels, sample_rate, how))
        to = f"{sample_rate} Hz {how}".strip()
        log.info("%d Hz, %d channels: converted to %s (first such file: %s)", rate, channels, to, path)
