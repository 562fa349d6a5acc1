"""Recordings as the page shows them: checked whole, as one channel that every browser plays, and as a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from data import audio
from modules.spectral import coloured
from utils.files import whole_file

if TYPE_CHECKING:
    from PIL import Image

WIDTH, HEIGHT = 960, 160  # pixels of a picture
_WINDOW, _HOP = 512, 128  # samples
_FLOOR_DB = -80.0
_PIECE = 60  # seconds that are held at a time
_SHADES = 64  # finer steps of 80 dB cannot be told apart, and cost bytes
SHORTEST_STRETCH, LONGEST_STRETCH = 0.5, 60.0  # seconds
VOICE_MINUTES = 5.0  # at most, of a recording of one voice, which is read as a whole


@dataclass(frozen=True)
class Limits:
    """What is taken of a person.

    Attributes:
        megabytes: of a file.
        minutes: of a recording.
    """

    megabytes: float = 1000.0
    minutes: float = 120.0


@dataclass(frozen=True)
class Shown:
    """A recording that can be seen and heard.

    Attributes:
        name: what the person calls it.
        sound: file, of one channel, which every browser plays.
        picture: file, its spectrogram.
        seconds: its length.
        source: what it was made of, a file.
        file: the name under which it can be saved; empty where it is the person's own.
        note: what else is told of it.
    """

    name: str
    sound: str
    picture: str
    seconds: float
    source: str
    file: str = ""
    note: str = ""


def require_within(path: str | os.PathLike, limits: Limits) -> None:
    """Check a file as all audio is, and against the limits.

    Raises:
        ValueError, OSError: the message names the file, what is wrong, and the way out.
    """
    megabytes = os.path.getsize(path) / 1e6 if os.path.isfile(path) else 0.0
    if megabytes > limits.megabytes:
        raise ValueError(
            f"{path} has {megabytes:.0f} MB, and this page takes {limits.megabytes:g} MB at most: flac is smaller than "
            "wav; or start it with --max-mb"
        )
    found = audio.header(path)
    minutes = found.samples / found.sample_rate / 60
    if minutes > limits.minutes:
        raise ValueError(
            f"{path} is {minutes:.1f} minutes long, and this page takes {limits.minutes:g} at most: cut it; or start "
            "the page with --max-minutes"
        )


def require_voice(path: str | os.PathLike, limits: Limits) -> None:
    """The same for the recording of a voice, of which a few seconds are enough."""
    require_within(path, limits)
    found = audio.header(path)
    if (minutes := found.samples / found.sample_rate / 60) > VOICE_MINUTES:
        raise ValueError(
            f"{path} is {minutes:.1f} minutes long, and of a voice this page takes {VOICE_MINUTES:g} at most: a "
            "few seconds of it are enough"
        )


def show(path: str | os.PathLike, name: str, folder: Path, *, check: Callable[[float], None] | None = None) -> Shown:
    """Read a recording from its beginning to its end, a minute at a time, and write what shows it.

    Args:
        path: as it was given.
        name: what to call it.
        folder: of its own, where both files go.
        check: is told, often, which part of it is done; may raise an error, to stop it.

    Raises:
        ValueError, OSError: it is no sound, or a part of it cannot be read; the message names ``path``.
    """
    samples = audio.num_samples(path)
    columns = Columns(samples)

    def parts() -> Iterator[np.ndarray]:
        for start in range(0, samples, _PIECE * audio.SAMPLE_RATE):
            if check is not None:
                check(start / samples)
            part = audio.read(path, start=start, length=min(_PIECE * audio.SAMPLE_RATE, samples - start))
            columns.add(part)
            yield part

    sound, picture = folder / "sound.wav", folder / "picture.png"
    audio.write_parts(sound, parts())
    _save(columns.picture(), picture)
    return Shown(name, str(sound), str(picture), samples / audio.SAMPLE_RATE, os.fspath(path))


def cut_stretch(path: str | os.PathLike, start: float, end: float, output: Path) -> None:
    """Write seconds ``start`` to ``end`` of a recording, at its own rate, with all its channels.

    Raises:
        ValueError: there is no such stretch, or it is too short to know a voice by; or as ``audio.read``.
    """
    found = audio.header(path)
    seconds = found.samples / found.sample_rate
    if not 0 <= start < end <= seconds + 0.01:
        raise ValueError(f"{path} has no stretch from {start:g} to {end:g} s: it is {seconds:.2f} s long")
    if end - start < SHORTEST_STRETCH:
        raise ValueError(
            f"the stretch from {start:g} to {end:g} s of {path} is too short to know a voice by: mark "
            f"{SHORTEST_STRETCH:g} s or more"
        )
    if end - start > LONGEST_STRETCH:
        raise ValueError(
            f"the stretch from {start:g} to {end:g} s of {path} is longer than a voice needs: mark "
            f"{LONGEST_STRETCH:g} s or less"
        )
    first, rate = round(start * found.sample_rate), found.sample_rate
    wav = audio.read(path, start=first, length=round(end * rate) - first, sample_rate=rate, channels=None)
    audio.write(output, wav, sample_rate=rate, subtype="FLOAT")


class Columns:
    """The spectrogram of a signal that comes in parts, as a picture of bounded width: each column is a mean of power.

    Args:
        samples: of the whole signal.
    """

    def __init__(self, samples: int):
        frames = max(1, samples // _HOP)
        self.width = min(WIDTH, frames)
        self._power = torch.zeros(self.width, _WINDOW // 2 + 1, dtype=torch.float64)
        self._count = torch.zeros(self.width, dtype=torch.float64)
        self._frames, self._done = frames, 0
        self._left = torch.zeros(0)

    def add(self, part: np.ndarray) -> None:
        """The next samples, [T]."""
        wav = torch.cat([self._left, torch.from_numpy(np.asarray(part, dtype=np.float32))])
        if len(wav) < _WINDOW:
            self._left = wav
            return
        windows = wav.unfold(0, _WINDOW, _HOP)  # [frames, window]
        power = torch.fft.rfft(windows * torch.hann_window(_WINDOW)).abs().square().double()
        column = (torch.arange(len(power)) + self._done) * self.width // self._frames
        column = column.clamp(max=self.width - 1)
        self._power.index_add_(0, column, power)
        self._count.index_add_(0, column, torch.ones(len(power), dtype=torch.float64))
        self._done += len(power)
        self._left = wav[len(power) * _HOP :]

    def picture(self) -> torch.Tensor:
        """[3, H, W] in [0, 1], low frequencies at the bottom."""
        power = self._power / self._count.clamp(min=1)[:, None]
        if self._done:  # the last columns are of less than a window
            power[self._count == 0] = power[self._count > 0][-1]
        peak = power.max().clamp(min=1e-20)
        level = 1 - (10 * torch.log10(power / peak + 1e-20)).clamp(min=_FLOOR_DB) / _FLOOR_DB
        return coloured(level.float().T.flip(0))


def _save(picture: torch.Tensor, path: Path) -> None:
    from PIL import Image

    pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels).resize((max(pixels.shape[1], WIDTH // 2), HEIGHT), resample=_lanczos())
    with whole_file(path) as temporary:
        image.quantize(_SHADES, dither=Image.Dither.NONE).save(temporary, "PNG", optimize=True)


def _lanczos() -> Image.Resampling:
    from PIL import Image

    return Image.Resampling.LANCZOS
