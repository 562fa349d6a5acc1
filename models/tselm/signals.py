"""What an extractor is given to hear: whole in memory, or read piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F

from modules.cutting import Piece


class Signal:
    """A mono signal, read piece by piece.

    Attributes:
        is_silent: whether all that was read of it is zero.

    Args:
        segment: gives samples ``start`` to ``start + length``, [at most length].
        samples: how many there are.
    """

    def __init__(self, segment: Callable[[int, int], torch.Tensor], samples: int):
        self._segment = segment
        self.samples = samples
        self.is_silent = True

    def read(self, piece: Piece) -> torch.Tensor:
        """[length], with zeros beyond the end."""
        wav = self._segment(piece.start, piece.length)
        self.is_silent = self.is_silent and not bool(wav.any())
        return F.pad(wav, (0, piece.length - len(wav)))


def signals(wavs: Iterable[torch.Tensor]) -> list[Signal]:
    """Of whole signals, [T] each."""
    return [Signal(lambda start, length, wav=wav: wav[start : start + length], len(wav)) for wav in wavs]


def as_row(wav: torch.Tensor | np.ndarray, name: str) -> torch.Tensor:
    """[T], float32."""
    return as_batch(wav, name)[0][0]


def as_batch(wav: torch.Tensor | np.ndarray, name: str) -> tuple[torch.Tensor, bool]:
    """[T] or [B, T] as a float32 batch, and whether it was one."""
    wav = torch.as_tensor(wav)
    if not wav.is_floating_point():
        raise ValueError(f"the {name} must be floating point in [-1, 1], got {wav.dtype}")
    if wav.ndim not in (1, 2):
        raise ValueError(f"the {name} must be [T] or [B, T], got {list(wav.shape)}")
    if wav.numel() == 0:
        raise ValueError(f"the {name} holds no samples")
    if not bool(wav.isfinite().all()):
        raise ValueError(f"the {name} holds samples that are not finite (NaN or infinite)")
    return wav.float().reshape(-1, wav.shape[-1]), wav.ndim == 2
