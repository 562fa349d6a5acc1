"""Audio files: read a segment by seeking, as 16 kHz mono whatever the file holds, and write atomically."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
import torchaudio.functional as AF

SAMPLE_RATE = 16000
_FILTER_WIDTH = 6  # zero crossings of torchaudio's resampling kernel, its default
log = logging.getLogger(__name__)


def num_samples(path: str | os.PathLike, *, sample_rate: int = SAMPLE_RATE) -> int:
    """Length of an audio file in samples at ``sample_rate``, from its header alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not audio that libsndfile reads.
    """
    with _open(path) as file:
        return _resampled_length(file.frames, file.samplerate, sample_rate)


def read(
    path: str | os.PathLike, *, start: int = 0, length: int | None = None, sample_rate: int = SAMPLE_RATE
) -> np.ndarray:
    """Read samples ``start`` to ``start + length`` of a file (wav, flac, ogg, mp3) as mono at ``sample_rate``.

    ``start`` and ``length`` count samples at ``sample_rate``. Only the segment is decoded, and it equals the same
    segment of the whole file, whatever the file's rate. A segment that reaches past the end is shorter.

    Returns:
        [T] float32, T <= length.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not audio, no samples, or samples that are not finite; the message names the file.
    """
    with _open(path) as file:
        return _read_segment(file, path, start, length, sample_rate)


def read_crop(path: str | os.PathLike, *, length: int, position: float, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Read ``length`` samples from the place that ``position`` in [0, 1) chooses, zero-padded at the end if shorter.

    A uniform ``position`` gives every possible start the same chance.

    Returns:
        [length] float32.
    """
    return pad(read_part(path, length=length, position=position, sample_rate=sample_rate), length)


def read_part(path: str | os.PathLike, *, length: int, position: float, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """The same without padding: all of a file that is shorter. [T] float32, T <= length."""
    with _open(path) as file:
        total = _resampled_length(file.frames, file.samplerate, sample_rate)
        start = int(position * (max(total - length, 0) + 1))
        return _read_segment(file, path, start, length, sample_rate)


def pad(wav: np.ndarray, length: int) -> np.ndarray:
    """``wav`` [T], T <= length, with zeros at its end: [length]. The same array where none are missing."""
    return wav if len(wav) == length else np.pad(wav, (0, length - len(wav)))


def write(path: str | os.PathLike, wav: np.ndarray, *, sample_rate: int = SAMPLE_RATE, subtype: str = "PCM_16") -> None:
    """Write ``wav`` [T], values in [-1, 1], under a temporary name, and rename it when it is complete.

    Values outside [-1, 1] are clipped, with a warning in the log: 16-bit files cannot hold them.
    """
    write_parts(path, [wav], sample_rate=sample_rate, subtype=subtype)


def write_parts(
    path: str | os.PathLike, parts: Iterable[np.ndarray], *, sample_rate: int = SAMPLE_RATE, subtype: str = "PCM_16"
) -> None:
    """The same for a signal that comes in parts, [T] each, none of which has to stay in memory."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")  # what a killed run leaves, the next overwrites
    peak, clips = 0.0, subtype.startswith("PCM")
    try:
        with sf.SoundFile(temporary, "w", sample_rate, 1, subtype) as file:
            for part in parts:
                part = np.asarray(part, dtype=np.float32)
                if not np.isfinite(part).all():
                    raise ValueError(f"refusing to write {path}: the signal has samples that are not finite")
                peak = max(peak, float(np.abs(part).max(initial=0.0)))
                file.write(np.clip(part, -1, 1) if clips else part)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if peak > 1 and clips:
        log.warning("%s: peak %.2f is above full scale and was clipped", path, peak)


class OneSegment(sf.SoundFile):
    """A file to seek in and to read from once.

    After each read from a file that can seek, soundfile seeks to where it is already. In a flac file that decodes one
    or two frames more for nothing, a tenth of the time of reading 3 s.
    """

    def seekable(self) -> bool:
        return False


def _open(path: str | os.PathLike) -> OneSegment:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no such audio file: {path}")
    try:
        return OneSegment(os.fspath(path))
    except sf.SoundFileError as error:
        raise ValueError(f"cannot read {path} as audio ({error}); wav, flac, ogg and mp3 files are read") from error


def _read_segment(file: sf.SoundFile, path, start: int, length: int | None, sample_rate: int) -> np.ndarray:
    if file.frames == 0:
        raise ValueError(f"{path} holds no samples")
    if file.channels > 1 or file.samplerate != sample_rate:
        _say_once(file.samplerate, file.channels, sample_rate, str(path))
    try:
        if file.samplerate == sample_rate:
            wav = _mono(file, start, length)
        else:
            wav = _resample_segment(file, start, length, sample_rate)
    except sf.SoundFileError as error:
        raise ValueError(f"cannot decode {path}: {error}") from error
    if not np.isfinite(wav).all():
        raise ValueError(f"{path} holds samples that are not finite (NaN or infinite)")
    return wav


def _resample_segment(file: sf.SoundFile, start: int, length: int | None, sample_rate: int) -> np.ndarray:
    # The resampling kernel repeats every `old` input samples, which give `new` output samples. So read whole such
    # blocks, with as many more on the left as the kernel reaches, and cut what was asked for from the result.
    divisor = math.gcd(file.samplerate, sample_rate)
    old, new = file.samplerate // divisor, sample_rate // divisor
    reach = math.ceil(_FILTER_WIDTH * old / min(old, new)) + old
    total = _resampled_length(file.frames, file.samplerate, sample_rate)
    stop = total if length is None else min(start + length, total)
    if start >= stop:
        return np.zeros(0, dtype=np.float32)
    first_block = max(0, start // new - math.ceil(reach / old))
    last_block = stop // new + math.ceil(reach / old) + 1
    wav = _mono(file, first_block * old, (last_block - first_block) * old)
    wav = AF.resample(torch.from_numpy(wav), file.samplerate, sample_rate, lowpass_filter_width=_FILTER_WIDTH).numpy()
    offset = first_block * new
    return wav[start - offset : stop - offset]


def _mono(file: sf.SoundFile, start: int, length: int | None) -> np.ndarray:
    start = min(start, file.frames)
    file.seek(start)
    available = file.frames - start
    wav = file.read(available if length is None else min(length, available), dtype="float32")
    return wav if wav.ndim == 1 else wav.mean(axis=1)


def _resampled_length(frames: int, rate: int, sample_rate: int) -> int:
    return frames if rate == sample_rate else math.ceil(frames * sample_rate / rate)


_said: set[tuple[int, int]] = set()


def _say_once(rate: int, channels: int, sample_rate: int, path: str) -> None:
    """Say once per kind of file, and per process, that audio is converted."""
    if (rate, channels) not in _said:
        _said.add((rate, channels))
        log.info("%d Hz, %d channels: converted to %d Hz mono (first such file: %s)", rate, channels, sample_rate, path)
