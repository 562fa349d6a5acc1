"""Fixtures of the unit HiFi-GAN's tests."""

from __future__ import annotations

import pytest
import torch

from modules.discriminators import Discriminators


@pytest.fixture(scope="module")
def discriminator() -> Discriminators:
    torch.manual_seed(0)
    return Discriminators(width=0.05, periods=[2, 3], scales=1)


@pytest.fixture(scope="module")
def period_discriminators() -> Discriminators:
    """Without the spectral norm, which takes a step of its own in each pass."""
    torch.manual_seed(0)
    return Discriminators(width=0.05, periods=[2, 3], scales=0)
