"""Where a signal is cut into pieces, and what is kept of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

from modules.frames import FrameGrid


@dataclass(frozen=True)
class Piece:
    """A part of a signal.

    Attributes:
        signal: which one of several it is a part of.
        start, length: in samples. The last piece of a signal may reach beyond its end.
        kept: the frames of it that are kept; joined, those of all pieces are the whole signal's.
    """

    signal: int
    start: int
    length: int
    kept: slice


class Cutting:
    """Cuts by frames with context.

    Windows of ``context + piece + context`` frames overlap by their contexts; of every window the frames in the middle
    are kept, and joined they are the whole signal's. All windows are equally long (the last one is moved back), so they
    are batched::

        frames   0 ........................................... F
        window 1 |------ kept ------|ctx|
        window 2           |ctx|---- kept ----|ctx|
        window 3                       |ctx|------ kept ------|

    What computes on a window hears all of it, so pieces agree with the whole signal only as far as it uses no more
    than ``context`` on either side.

    Args:
        grid: of the tokenizer.
        piece, context: frames of a window that are kept, and on either side of them.
    """

    def __init__(self, *, grid: FrameGrid, piece: int, context: int):
        self.grid = grid
        self.piece = piece
        self.context = context
        self.window = piece + 2 * context

    def cut(self, samples: int, signal: int = 0) -> list[Piece]:
        """The pieces of a signal of ``samples``, all of one length."""
        frames = self.grid.cover(samples)
        window = min(self.window, frames)
        starts = [*range(0, frames - window, self.piece), frames - window]
        # Neighbours meet one context after the start of the later one.
        cuts = [0, *(start + self.context for start in starts[1:]), frames]
        length = self.grid.samples(window)
        return [
            Piece(signal, start * self.grid.hop, length, slice(cut - start, end - start))
            for start, (cut, end) in zip(starts, itertools.pairwise(cuts), strict=True)
        ]


def batches(pieces: Iterable[Piece], *, samples: int, alike: Callable[[Piece], Hashable]) -> Iterator[list[Piece]]:
    """Neighbours that can be computed together: equally long and ``alike``, and no longer than ``samples`` in all."""
    for (length, _), group in itertools.groupby(pieces, key=lambda piece: (piece.length, alike(piece))):
        size = max(1, samples // length)
        while batch := list(itertools.islice(group, size)):
            yield batch
