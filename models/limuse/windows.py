"""How a long recording is cut into windows, and how what was made of them is joined."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

FACE_HOP = 640  # samples of a frame of a face: 25 a second at 16 kHz


@dataclass(frozen=True)
class Window:
    """Samples ``start`` to ``start + length`` of a recording; ``start`` is a multiple of 640."""

    start: int
    length: int


class Windows:
    """Windows of one length that overlap; the last one reaches the end, and so may overlap by more.

    Neighbours are cross-faded linearly in the middle of where they overlap::

        window 1 |----------------\\
        window 2              /----------------\\
        window 3                        /-----------------|

    Args:
        piece_seconds: of a window; a recording that is not longer is one window of its own length.
        overlap_seconds: of neighbours.
        sample_rate: in Hz.

    Raises:
        ValueError: a window that is not longer than its overlap, or no such numbers.
    """

    def __init__(self, *, piece_seconds: float, overlap_seconds: float, sample_rate: int):
        if not all(map(math.isfinite, (piece_seconds, overlap_seconds))) or min(piece_seconds, overlap_seconds) < 0:
            raise ValueError(
                f"piece_seconds and overlap_seconds must be 0 or more, got {piece_seconds} and {overlap_seconds}"
            )
        self.piece = round(piece_seconds * sample_rate)
        self.overlap = round(overlap_seconds * sample_rate)
        self.step = (self.piece - self.overlap) // FACE_HOP * FACE_HOP
        if self.step <= 0:
            raise ValueError(
                f"piece_seconds must be above overlap_seconds by a frame of a face ({FACE_HOP / sample_rate} s) at "
                f"least, got piece_seconds {piece_seconds} and overlap_seconds {overlap_seconds}"
            )

    def cut(self, samples: int) -> list[Window]:
        """The windows of a recording."""
        if samples <= self.piece:
            return [Window(0, samples)]
        last = -(-(samples - self.piece) // FACE_HOP) * FACE_HOP
        windows = [Window(start, self.piece) for start in range(0, last, self.step)]
        return [*windows, Window(last, samples - last)]

    def join(self, windows: list[Window], made: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The signal in parts, [at most a window], of what was made of each window, [its length]."""
        kept, begin = torch.zeros(0), 0  # of the window before, from sample ``begin`` of the recording on
        for place, (window, wav) in enumerate(zip(windows, made, strict=True)):
            if place:
                common = windows[place - 1].start + windows[place - 1].length - window.start
                fade = min(self.overlap, common)
                left = window.start + (common - fade) // 2  # the fade's first sample
                rise = torch.arange(1, fade + 1, device=wav.device) / (fade + 1)
                yield kept[: left - begin]
                old, new = kept[left - begin :][:fade], wav[left - window.start :][:fade]
                kept, begin = torch.cat([old + (new - old) * rise, wav[left - window.start + fade :]]), left
            else:
                kept = wav
        yield kept
