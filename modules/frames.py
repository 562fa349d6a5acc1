"""The frame law: how many frames an encoder makes of how many samples, and which samples a frame sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class FrameGrid:
    """Frames of ``window`` samples, one every ``hop`` samples, only where the whole window fits.

    Frame ``n`` sees samples ``hop * n`` to ``hop * n + window``. The defaults are those of wav2vec 2.0, HuBERT and
    WavLM at 16 kHz: 50 frames a second.
    """

    window: int = 400
    hop: int = 320

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.window:
            raise ValueError(f"a frame grid needs 0 < hop <= window, got hop {self.hop} and window {self.window}")

    @property
    def overlap(self) -> int:
        """How many samples a frame looks beyond the start of the next one."""
        return self.window - self.hop

    def frames(self, samples: int | torch.Tensor) -> int | torch.Tensor:
        """Number of frames in ``samples`` samples: (samples - window) // hop + 1, and never below 0."""
        frames = (samples - self.window) // self.hop + 1
        return frames.clamp(min=0) if isinstance(frames, torch.Tensor) else max(frames, 0)

    def samples(self, frames: int) -> int:
        """The fewest samples that give ``frames`` frames: hop * frames + overlap."""
        return self.hop * frames + self.overlap if frames else 0

    def cover(self, samples: int) -> int:
        """The fewest frames whose hops cover ``samples`` samples: ceil(samples / hop)."""
        return -(-samples // self.hop)


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """True where a position is inside its row's length.

    Args:
        lengths: [B] int64.
        size: positions in a row.

    Returns:
        [B, size] bool.
    """
    return torch.arange(size, device=lengths.device) < lengths[:, None]
