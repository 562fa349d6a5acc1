"""Draws of tokens that follow from a seed and a step alone, whatever is computed together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_BLOCK = 256  # numbers that are drawn at a time


def require_sampling(temperature: float, top_p: float) -> None:
    """Raise a ValueError if these are no settings of ``choose``."""
    if not temperature >= 0 or temperature == float("inf"):
        raise ValueError(f"temperature must be a number of 0 or more, got {temperature}")
    if not 0 <= top_p <= 1:
        raise ValueError(f"top_p must be in [0, 1], got {top_p}")


class Draws:
    """Of each of B seeds an endless series of numbers in [0, 1): the s-th is that of step s.

    Args:
        seeds: B integers.
    """

    def __init__(self, seeds: Sequence[int]):
        self._generators = [np.random.Generator(np.random.Philox(np.random.SeedSequence(abs(s), spawn_key=(s < 0,))))
                            for s in seeds]  # fmt: skip
        self._numbers = np.empty((len(seeds), 0))

    def at(self, rows: Sequence[int], steps: Sequence[int]) -> np.ndarray:
        """float64 of these rows, each at its own step."""
        while steps and max(steps) >= self._numbers.shape[1]:
            more = [generator.random(_BLOCK) for generator in self._generators]
            self._numbers = np.concatenate([self._numbers, np.stack(more)], axis=1)
        return self._numbers[np.asarray(rows), np.asarray(steps)]


def choose(logits: Tensor, draws: Tensor | None, *, temperature: float, top_p: float) -> Tensor:
    """A token of each row: the likeliest, or one that is drawn.

    Drawn is from softmax(logits / temperature) of the likeliest tokens, as long as the mass before them is at most
    ``top_p``.

    Args:
        logits: [B, V]; -inf where a token is not allowed.
        draws: [B] in [0, 1); None only where ``is_greedy``.

    Returns:
        [B] int64.
    """
    if is_greedy(temperature, top_p):
        return logits.argmax(dim=-1)
    values, order = logits.double().sort(dim=-1, descending=True, stable=True)
    mass = ((values - values[:, :1]) / temperature).softmax(dim=-1)
    before = mass.cumsum(dim=-1) - mass
    mass = mass.masked_fill(before > top_p, 0.0)
    upto = mass.cumsum(dim=-1)
    place = torch.searchsorted(upto, (draws.to(upto) * upto[:, -1])[:, None], right=True)
    last = (mass > 0).sum(dim=-1, keepdim=True) - 1  # the product may round up to the whole mass
    return order.gather(1, torch.minimum(place, last))[:, 0]


def is_greedy(temperature: float, top_p: float) -> bool:
    """Whether the likeliest token is taken, and nothing drawn."""
    return temperature == 0 or top_p == 0
