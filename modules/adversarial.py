"""What a generator is told by discriminators that do not learn from it at the moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from modules.frozen import without_gradients
from modules.losses import feature_matching_loss


def against_discriminators(
    discriminator: nn.Module,
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    loss: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    summed: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A generator's adversarial and feature matching losses.

    The discriminators' parameters take no part in the backward pass, which spares the work.

    Args:
        discriminator: gives the scores and the layers' outputs of its parts for wav [B, 1, T].
        real, fake: [B, T].
        loss: of the scores of the fake.
        summed: the feature matching is the sum over all layers, not the mean.
    """
    with without_gradients(discriminator):
        with torch.no_grad():
            _, real_features = discriminator(real[:, None])
        scores, features = discriminator(fake[:, None])
    return loss(scores), feature_matching_loss(real_features, features, summed=summed)
