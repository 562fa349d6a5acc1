"""Frames drawn at random from the batches of all processes, so that it does not matter who has which."""

from __future__ import annotations

import torch


def draw(
    shape: tuple[int, int], *, items: torch.Tensor, frames: int, places: torch.Tensor, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a frame for each of [K, V] places; each of the K rows has different ones as far as there are so many.

    Args:
        shape: (K, V).
        items: a scalar, the items of a step in all processes.
        frames: of each item.
        places: [B], the numbers of the items that are here, up to a constant.
        seed: must be the same in all processes.

    Returns:
        [K, V], the frame's number among the ``B * frames`` that are here, item by item, and whether it is here.
    """
    generator = torch.Generator().manual_seed(seed)
    strata = torch.stack([torch.randperm(shape[1], generator=generator) for _ in range(shape[0])])
    draws = (strata + torch.rand(shape, generator=generator, dtype=torch.float64)) / shape[1]
    chosen = (draws.to(places.device) * items * frames).long()  # [K, V]
    if not len(places):
        return torch.zeros_like(chosen), torch.zeros_like(chosen, dtype=torch.bool)
    is_here = (chosen // frames)[..., None] == places % items  # [K, V, items here]
    return is_here.byte().argmax(-1) * frames + chosen % frames, is_here.any(-1)
