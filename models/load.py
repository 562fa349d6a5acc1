"""From a recipe and a checkpoint to a system that is ready for use."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch

from models.interfaces import TargetExtractor
from utils.recipe import Recipe
from utils.seed import make_reproducible


def load_extractor(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    *,
    device: str | torch.device = "cpu",
    overrides: Iterable[str] = (),
) -> TargetExtractor:
    """Build the recipe's ``model`` and load its trained weights.

    >>> extractor = load_extractor("config/tselm_l.yaml", "best.pth", device="cuda")  # doctest: +SKIP
    >>> speech = extractor.extract(mixture, enrolment)  # doctest: +SKIP

    Args:
        config: the recipe; only what its ``model`` needs is built, so its training paths may be unset.
        checkpoint: of this project (``best.pth``, ``last.pth``) or released.
        device: where to compute.
        overrides: ``KEY=VALUE`` texts that change keys of the recipe.

    Raises:
        FileNotFoundError, ValueError: what is missing or wrong, by name.
    """
    model = Recipe(config, overrides=overrides).build("model")["model"]
    make_reproducible()  # now that all libraries are imported
    model.load_checkpoint(checkpoint)
    return model.to(device)
