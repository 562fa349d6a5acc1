"""F0 contours of speech at 16 kHz, tracked once for each audio content and kept on disk."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.errors import describe
from utils.files import read_arrays, write_arrays

log = logging.getLogger(__name__)

SAMPLE_RATE = 16000
HOP = 80  # samples
TRACKERS = ("yaapt", "harvest")
LEVEL = 0.95  # of the peak that a tracker hears
_EDGE = 160  # zeros on both sides that YAAPT hears
_YAAPT = {"frame_length": 20.0, "frame_space": 5.0, "nccf_thresh1": 0.25, "tda_frame_length": 25.0}
_VERSION = 1  # of what is kept; another one is tracked again


@dataclass(frozen=True)
class Contour:
    """F0 of a signal, a frame every 80 samples.

    Attributes:
        f0: [M] Hz float32, 0 where there is no voice.
        interpolated: [M] Hz float32, with the gaps filled.
    """

    f0: np.ndarray
    interpolated: np.ndarray


def at_level(wav: np.ndarray, *, peak: float | None = None) -> np.ndarray:
    """The signal that trackers and training hear: divided by its peak, times 0.95, float32; silence as it is.

    The product is taken in float64 and rounded once: a tracker's choices can flip with the last bit of what it hears
    (and of its matrix products: OpenBLAS has others for each kind of CPU).

    Args:
        peak: of the file that this is a part of; None: the signal's own.
    """
    wide = np.asarray(wav, dtype=np.float64)
    peak = np.abs(wide).max(initial=0.0) if peak is None else peak
    return (wide / peak * LEVEL if peak > 0 else wide).astype(np.float32)


class PitchTracker:
    """A tracker, and the folder that keeps what it found.

    A contour belongs to one audio content, tracker and range: its file is named after a digest of these. So any number
    of processes may use a folder at once, and nothing in it is ever out of date.

    Args:
        tracker: ``yaapt`` (``amfm_decompy``, the published numbers), or ``harvest`` (``pyworld``, which is optional:
            faster on clean voices, other numbers).
        f0_min, f0_max: Hz; None: the tracker's own, 60 and 400 of YAAPT, 71 and 800 of harvest. Voices around 400 Hz
            come out an octave low with YAAPT's; 600 mends that.
        cache: the folder; None keeps nothing.

    Raises:
        ValueError: there is no such tracker, its package is missing, or the range is none.
    """

    def __init__(
        self,
        *,
        tracker: str = "yaapt",
        f0_min: float | None = None,
        f0_max: float | None = None,
        cache: str | os.PathLike | None = None,
    ):
        if tracker not in TRACKERS:
            raise ValueError(f"f0_tracker must be one of {', '.join(TRACKERS)}, got {tracker!r}")
        low, high = f0_min or 0.0, f0_max or float("inf")
        if not 0 <= low < high:
            raise ValueError(f"f0_min and f0_max must be in Hz, the first below the second; got {f0_min} and {f0_max}")
        if tracker == "harvest":
            _require_harvest()
        self.tracker = tracker
        self.f0_min = f0_min
        self.f0_max = f0_max
        self.folder = None if cache is None else Path(cache)
        self._has_failed = False

    def __call__(self, wav: np.ndarray, *, peak: float | None = None, what: str = "the signal") -> Contour:
        """The contour of a signal [T] at 16 kHz, of ceil(T / 80) frames; it is brought to its level here.

        Args:
            peak: of the file that this is a part of; None: the signal's own.
            what: the signal's name, for the log.

        Raises:
            ValueError: the signal is not finite.
        """
        if not np.isfinite(wav).all():
            raise ValueError(f"{what} holds NaN or infinity, of which there is no pitch")
        levelled = at_level(wav, peak=peak)
        path = None if self.folder is None else self.folder / f"{self._key(levelled)}.npz"
        if path is not None and (kept := self._read(path, len(levelled))) is not None:
            return kept
        contour = self._track(levelled, what)
        if path is not None:
            self._write(path, contour)
        return contour

    def facts(self) -> dict[str, object]:
        """What a contour follows from beside the signal."""
        return {"f0_tracker": self.tracker, "f0_min": self.f0_min, "f0_max": self.f0_max}

    # -- the folder ----------------------------------------------------------------------------------------------------

    def _key(self, levelled: np.ndarray) -> str:
        made = hashlib.sha256(repr((_VERSION, *self.facts().values())).encode())
        made.update(np.ascontiguousarray(levelled).tobytes())
        return made.hexdigest()[:32]

    def _read(self, path: Path, samples: int) -> Contour | None:
        try:
            arrays = read_arrays(path)
            found = Contour(arrays["f0"], arrays["interpolated"])
            if {x.shape for x in (found.f0, found.interpolated)} != {(_frames(samples),)}:
                raise ValueError(f"{path} holds a contour of another length")
            return found
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            log.warning("tracked anew: %s", describe(error))
            return None

    def _write(self, path: Path, contour: Contour) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(path, {"f0": contour.f0, "interpolated": contour.interpolated})
        except OSError as error:
            if not self._has_failed:
                log.warning("the contour is not kept: %s", describe(error))
            self._has_failed = True

    # -- the trackers --------------------------------------------------------------------------------------------------

    def _track(self, levelled: np.ndarray, what: str) -> Contour:
        frames = _frames(len(levelled))
        if not levelled.any():
            return Contour(np.zeros(frames, np.float32), np.zeros(frames, np.float32))
        f0, interpolated = self._yaapt(levelled, what) if self.tracker == "yaapt" else self._harvest(levelled)
        f0, interpolated = (_of_length(x, frames) for x in (f0, interpolated))
        f0[_is_silent(levelled, frames)] = 0
        return Contour(f0, interpolated)

    def _yaapt(self, levelled: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
        from amfm_decompy import basic_tools, pYAAPT

        signal = basic_tools.SignalObj(np.pad(levelled.astype(np.float64), _EDGE), SAMPLE_RATE)
        limits = {name: value for name, value in (("f0_min", self.f0_min), ("f0_max", self.f0_max)) if value}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of silence and of short input
                pitch = pYAAPT.yaapt(signal, **_YAAPT, **limits)
        except (IndexError, ValueError) as error:  # what it makes of some 400 samples and fewer
            log.warning("%s: YAAPT finds no contour in %d samples (%s): taken as unvoiced", what, len(levelled), error)
            return np.zeros(0), np.zeros(0)
        return pitch.samp_values, pitch.samp_interp

    def _harvest(self, levelled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pyworld = _require_harvest()
        limits = {"f0_floor": self.f0_min or 71.0, "f0_ceil": self.f0_max or 800.0}
        wide = np.pad(levelled.astype(np.float64), (0, max(0, 4 * HOP - len(levelled))))
        f0, _ = pyworld.harvest(wide, SAMPLE_RATE, frame_period=1000 * HOP / SAMPLE_RATE, **limits)
        return f0, _filled(f0)


def f0_statistics(contours: list[np.ndarray]) -> dict[str, float | int] | None:
    """Mean and deviation (over n) in Hz of all voiced frames, in float64, and their number; None without any."""
    voiced = np.concatenate([np.asarray(c, dtype=np.float64)[c != 0] for c in contours] or [np.zeros(0)])
    if not len(voiced):
        return None
    return {"f0_mean": float(voiced.mean()), "f0_std": float(voiced.std()), "frames": len(voiced)}


def _frames(samples: int) -> int:
    return -(-samples // HOP)


def _of_length(contour: np.ndarray, frames: int) -> np.ndarray:
    """float32 of so many frames: cut, or zeros behind."""
    found = np.zeros(frames, np.float32)
    found[: len(contour)] = contour[:frames]
    return found


def _is_silent(levelled: np.ndarray, frames: int) -> np.ndarray:
    """[frames] bool: digital silence in all samples around a frame, 25 ms to either side."""
    heard = np.flatnonzero(levelled)
    centres, reach = np.arange(frames) * HOP, SAMPLE_RATE // 40
    after = np.searchsorted(heard, centres - reach)
    return (after == len(heard)) | (heard[np.minimum(after, len(heard) - 1)] > centres + reach)


def _filled(f0: np.ndarray) -> np.ndarray:
    """Gaps filled by straight lines, the ends by the nearest voiced frame."""
    voiced = np.flatnonzero(f0)
    return np.interp(np.arange(len(f0)), voiced, f0[voiced]) if len(voiced) else f0


def _require_harvest():
    try:
        import pyworld
    except ImportError as error:
        raise ValueError("f0_tracker harvest needs the package pyworld: pip install pyworld") from error
    return pyworld
