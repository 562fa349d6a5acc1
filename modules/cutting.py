"""Where a mixture is cut into pieces, and what is kept of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

from modules.frames import FrameGrid

CHUNKINGS = ("aligned", "published")


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
    """Cuts by frames with context (``aligned``), or as the published code does (``published``).

    ``chunking="aligned"``: the mixture is cut by frames. Windows of ``context + piece + context`` seconds overlap by
    their contexts; of every window the frames in the middle are kept, and the tokens of the whole file are decoded as
    one. Sample i of the output belongs to sample i of the mixture, and the output is exactly as long. All windows are
    equally long (the last one is moved back), so they are batched::

        frames   0 ........................................... F
        window 1 |------ kept ------|ctx|
        window 2           |ctx|---- kept ----|ctx|
        window 3                       |ctx|------ kept ------|

    The encoder and the network hear a whole window, so pieces agree with the whole file only as far as they use no
    more than ``context`` seconds on either side.

    ``chunking="published"``: for reproducing published numbers. Pieces of ``mix_length`` samples, the last one
    zero-padded, are extracted and decoded apart, and joined. Each piece of 48,080 samples gives 48,000, so the output
    runs ahead of the mixture by 5 ms a piece, and can end short.

    Args:
        grid: of the tokenizer.
        chunking: one of ``CHUNKINGS``.
        mix_length: samples of a published piece.
        piece, context: frames of an aligned one that are kept, and on either side of them.

    Raises:
        ValueError: an unknown ``chunking``.
    """

    def __init__(self, *, grid: FrameGrid, chunking: str, mix_length: int, piece: int, context: int):
        if chunking not in CHUNKINGS:
            raise ValueError(f"chunking must be one of {', '.join(CHUNKINGS)}, got {chunking!r}")
        self.grid = grid
        self.is_published = chunking == "published"
        self.mix_length = mix_length
        self.piece = piece
        self.context = context
        self.window = piece + 2 * context

    def cut(self, samples: int, signal: int = 0) -> list[Piece]:
        """The pieces of a signal of ``samples``, all of one length."""
        if self.is_published:
            kept = slice(0, self.grid.frames(self.mix_length))
            return [Piece(signal, start, self.mix_length, kept) for start in range(0, samples, self.mix_length)]
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

    def decoded_together(self, frames: int) -> int:
        """How many of ``frames`` frames the vocoder takes as one signal: all, or those of a published piece."""
        return self.grid.frames(self.mix_length) if self.is_published else frames


def batches(pieces: Iterable[Piece], *, samples: int, alike: Callable[[Piece], Hashable]) -> Iterator[list[Piece]]:
    """Neighbours that can be computed together: equally long and ``alike``, and no longer than ``samples`` in all."""
    for (length, _), group in itertools.groupby(pieces, key=lambda piece: (piece.length, alike(piece))):
        size = max(1, samples // length)
        while batch := list(itertools.islice(group, size)):
            yield batch
