"""The two ways to cut a mixture: by frames with context, and as the published code does."""

from __future__ import annotations

from modules.cutting import Piece
from modules.frames import FrameGrid

CHUNKINGS = ("aligned", "published")


class PublishedCutting:
    """Pieces of ``mix_length`` samples, the last one zero-padded, which are extracted and decoded apart, and joined.

    For reproducing published numbers. Each piece of 48,080 samples gives 48,000, so the output runs ahead of the
    mixture by 5 ms a piece, and can end short.

    Args:
        grid: of the tokenizer.
        mix_length: samples of a piece.
    """

    def __init__(self, *, grid: FrameGrid, mix_length: int):
        self.mix_length = mix_length
        self.frames = grid.frames(mix_length)  # that the vocoder takes as one signal

    def cut(self, samples: int, signal: int = 0) -> list[Piece]:
        """The pieces of a signal of ``samples``, all of one length."""
        kept = slice(0, self.frames)
        return [Piece(signal, start, self.mix_length, kept) for start in range(0, samples, self.mix_length)]


def require_chunking(chunking: str) -> None:
    """Raise a ValueError if there is no such way to cut."""
    if chunking not in CHUNKINGS:
        raise ValueError(f"chunking must be one of {', '.join(CHUNKINGS)}, got {chunking!r}")
