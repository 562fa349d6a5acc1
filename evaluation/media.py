"""Signals as what a page can hold inside itself: pictures and sound, written as ``data:`` URLs."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from evaluation.metric import SAMPLE_RATE
from utils.files import whole_file

if TYPE_CHECKING:
    from PIL import Image

_PIXELS = (960, 192)  # the largest picture: wider than it is ever shown, and no heavier than it must be
_LANCZOS = 1  # PIL's number for it: the finest way to resize
_SHADES = 64  # of 80 dB: finer steps cannot be told apart, and cost bytes


def spectrogram_url(wav: np.ndarray) -> str:
    """The spectrogram of ``wav`` [T], 0 to 8 kHz, as a PNG picture."""
    picture = _spectrogram(wav)
    return _url("image/png", _png(picture.resize((min(picture.width, _PIXELS[0]), _PIXELS[1]), resample=_LANCZOS)))


def draw_spectrograms(path: str | os.PathLike, signals: Mapping[str, np.ndarray]) -> None:
    """Write the spectrograms of named signals [T], 0 to 8 kHz, one below the other, as one PNG file."""
    from PIL import Image, ImageDraw, ImageFont

    width, height, label = _PIXELS[0], 150, 22
    whole = Image.new("RGB", (width, len(signals) * (height + label)), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(15)
    for row, (name, wav) in enumerate(signals.items()):
        top = row * (height + label)
        draw.text((2, top + 2), name, fill="black", font=font)
        whole.paste(_spectrogram(wav).resize((width, height), resample=_LANCZOS), (0, top + label))
    with whole_file(path) as temporary:
        temporary.write_bytes(_png(whole).getvalue())


def _spectrogram(wav: np.ndarray) -> Image.Image:
    import torch  # late: a program that only evaluates stays small until its page is written
    from PIL import Image

    from modules.spectral import spectrogram_image

    pixels = (spectrogram_image(torch.from_numpy(np.asarray(wav, np.float32))) * 255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _png(picture: Image.Image) -> io.BytesIO:
    from PIL import Image

    file = io.BytesIO()
    picture.quantize(_SHADES, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file


def audio_url(wav: np.ndarray) -> str:
    """``wav`` [T] as 16-bit FLAC."""
    import soundfile as sf

    file = io.BytesIO()
    sf.write(file, np.clip(np.asarray(wav, np.float32), -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return _url("audio/flac", file)


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10 ... times a power of ten that is not below ``least`` > 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def ticks(low: float, high: float, at_most: int) -> list[tuple[float, str]]:
    """Round places within [``low``, ``high``], ``at_most`` of them, each with its label."""
    step = round_step((high - low) / max(at_most - 1, 1))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    places = [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return [(place, f"{place:.{digits}f}") for place in places]


def _url(kind: str, file: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
