"""Losses and error counts over tokens, and the losses of adversarial training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def token_cross_entropy(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over all B * N * K positions, in float32.

    Args:
        logits: [B, N, K, V].
        tokens: [B, N, K] int64 in [0, V).

    Returns:
        A scalar.
    """
    return F.cross_entropy(logits.float().flatten(0, -2), tokens.flatten())


def wrong_tokens(predicted: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Number of wrong positions of each codebook: [B, N, K], [B, N, K] -> [K] float64."""
    return (predicted != tokens).double().sum(dim=(0, 1))


def lsgan_discriminator_loss(real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor]) -> torch.Tensor:
    """Least squares: real scores to 1, fake ones to 0 (arXiv 1611.04076), in float32.

    The mean over the scores of each sub-discriminator, and the sum over these, as HiFi-GAN has it.

    Args:
        real, fake: the scores of each sub-discriminator, of any shape.

    Returns:
        A scalar.
    """
    pairs = zip(real, fake, strict=True)
    return sum((r.float() - 1).square().mean() + f.float().square().mean() for r, f in pairs)


def lsgan_generator_loss(fake: Sequence[torch.Tensor]) -> torch.Tensor:
    """Least squares: fake scores to 1; means and sum as in ``lsgan_discriminator_loss``."""
    return sum((f.float() - 1).square().mean() for f in fake)


def feature_matching_loss(
    real: Sequence[Sequence[torch.Tensor]], fake: Sequence[Sequence[torch.Tensor]]
) -> torch.Tensor:
    """Mean absolute difference of what the sub-discriminators' layers give (arXiv 1910.06711), in float32.

    The mean over each layer's values, and then over all layers of all sub-discriminators: each layer counts the same,
    however large it is. HiFi-GAN's paper takes the sum over the layers and a smaller weight.

    Args:
        real, fake: the layers of each sub-discriminator. No gradients flow into ``real``.

    Returns:
        A scalar.
    """
    pairs = [pair for layers in zip(real, fake, strict=True) for pair in zip(*layers, strict=True)]
    return torch.stack([(f.float() - r.detach().float()).abs().mean() for r, f in pairs]).mean()
