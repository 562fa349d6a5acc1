"""Audio files are written whole, in a form that the ending of their name says."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile as sf

from utils.files import unwritten, whole_file

# Forms that are written: libsndfile reads each back sample by sample. ogg and mp3 would change what was made.
WRITABLE = {".wav": "WAV", ".flac": "FLAC", ".aiff": "AIFF", ".aif": "AIFF", ".au": "AU", ".caf": "CAF", ".w64": "W64"}
log = logging.getLogger(__name__)


def require_writable_form(path: str | os.PathLike) -> None:
    """Tell early whether audio can be written under a name.

    Raises:
        ValueError: it is a folder, or its ending is not one of ``WRITABLE``.
    """
    name = os.fspath(path)
    if os.path.isdir(name) or name.endswith(("/", os.sep)):
        raise ValueError(f"{name} is a folder: give the name of a file that ends in {_endings()}")
    suffix = os.path.splitext(name)[1]
    if suffix.lower() not in WRITABLE:
        what = f"no {suffix} files are written" if suffix else "it has no ending"
        raise ValueError(f"cannot write {name}: {what}; one of {_endings()} can be")


def write(path: str | os.PathLike, wav: np.ndarray, *, sample_rate: int = 16000, subtype: str = "PCM_16") -> None:
    """Write ``wav`` [T] or [C, T], values in [-1, 1], in the form of the path's ending (see ``WRITABLE``).

    The file gets its name when it is complete. Values outside [-1, 1] are clipped, with a warning in the log: 16-bit
    files cannot hold them.

    Raises:
        ValueError: a form that is not written, a rate, channels or a subtype that it cannot hold, or samples that are
            not finite.
    """
    write_parts(path, [wav], sample_rate=sample_rate, subtype=subtype)


def write_parts(
    path: str | os.PathLike, parts: Iterable[np.ndarray], *, sample_rate: int = 16000, subtype: str = "PCM_16"
) -> None:
    """The same for a signal that comes in parts, [T] or [C, T] each, none of which has to stay in memory."""
    require_writable_form(path)
    parts = iter(parts)
    first = next(parts, np.zeros(0, dtype=np.float32))  # before a file is begun, as the channels are known from it
    channels = 1 if first.ndim == 1 else len(first)
    form = WRITABLE[Path(path).suffix.lower()]
    peak, clips = 0.0, subtype.startswith("PCM")
    with whole_file(path) as temporary:
        try:
            file = sf.SoundFile(os.fsencode(temporary), "w", sample_rate, channels, subtype, format=form)
        except (ValueError, sf.SoundFileError) as error:
            raise ValueError(f"cannot write {path}: {form} of {channels} channels at {sample_rate} Hz, {subtype}, is "
                             f"refused ({error})") from error  # fmt: skip
        with file:
            for part in chain([first], parts):
                part = np.asarray(part, dtype=np.float32)
                if (1 if part.ndim == 1 else len(part)) != channels:
                    raise ValueError(f"{path}: a part has the shape {list(part.shape)}, the first {channels} channels")
                if not np.isfinite(part).all():
                    raise ValueError(f"refusing to write {path}: the signal has samples that are not finite")
                peak = max(peak, float(np.abs(part).max(initial=0.0)))
                try:
                    file.write((np.clip(part, -1, 1) if clips else part).T)
                except sf.SoundFileError as error:  # it says "System error"
                    raise unwritten(path, error) from error
    if peak > 1 and clips:
        log.warning("%s: peak %.2f is above full scale and was clipped", path, peak)


def _endings() -> str:
    return ", ".join(WRITABLE)
