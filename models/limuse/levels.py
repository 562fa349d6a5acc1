"""How loud an output is: SI-SDR, and so the training, leaves its scale and its mean open."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch

LEVELS = ("mixture", "raw")
_CONSTANT = 1e-12  # of the power: what is left without the mean is rounding
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Level:
    """What becomes of an output y of a recording whose first channel is x.

    Attributes:
        kind: ``mixture``: y is scaled by <x, y> / <y, y>, where that is above 0; ``raw``: it stays as it is.
        remove_mean: y loses its mean before it is scaled.

    Raises:
        ValueError: a kind that is none.
    """

    kind: str = "mixture"
    remove_mean: bool = False

    def __post_init__(self) -> None:
        if self.kind not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {self.kind!r}")

    @staticmethod
    def sums(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Of parts [T] of both, what is added up over a recording: <x, y>, <y, y>, and the sums of x and of y, [4]."""
        x, y = x.double(), y.double()
        return torch.stack([x @ y, y @ y, x.sum(), y.sum()])

    def of(self, sums: torch.Tensor, samples: int, name: str) -> tuple[float, float]:
        """What is taken from each of so many samples, and what the rest is multiplied with.

        Args:
            name: of the recording, for the log.
        """
        dot, power, heard, made = sums.tolist()
        if not self.remove_mean:
            return 0.0, _gain(dot, power, name)
        mean = made / samples
        left = power - mean * made
        return mean, _gain(dot - mean * heard, left if left > _CONSTANT * power else 0.0, name)

    def adjust(self, made: torch.Tensor, heard: torch.Tensor, names: list[str]) -> torch.Tensor:
        """Whole outputs [B, T] of recordings whose first channels are ``heard``."""
        if self.kind == "raw":
            return made
        samples = made.shape[1]
        levels = [self.of(self.sums(x, y), samples, name) for x, y, name in zip(heard, made, names, strict=True)]
        means, gains = torch.tensor(levels, dtype=torch.float32).T[..., None]
        return gains * (made - means)


def _gain(dot: float, power: float, name: str) -> float:
    """<x, y> / <y, y>, or 1 where it is not above 0, which is told of what is not silent."""
    gain = dot / power if power > 0 else 0.0
    if gain > 0 and np.isfinite(np.float32(gain)):
        return gain
    if power > 0 and dot != 0:
        log.warning(
            "%s: the output does not agree with the recording (<x, y> is not above 0): its level stays raw", name
        )
    return 1.0
