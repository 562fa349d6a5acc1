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


def cross_entropy_of_items(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """[B], of each item the mean cross-entropy over its N * K positions; for the rest see ``token_cross_entropy``."""
    losses = F.cross_entropy(logits.float().flatten(0, -2), tokens.flatten(), reduction="none")
    return losses.unflatten(0, (len(tokens), -1)).mean(dim=1)


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


def hinge_discriminator_loss(real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor]) -> torch.Tensor:
    """Hinge: real scores above 1, fake ones below -1 (arXiv 1705.02894), in float32.

    The mean over the scores of each sub-discriminator, and over these. Arguments as for ``lsgan_discriminator_loss``.
    """
    pairs = zip(real, fake, strict=True)
    return torch.stack([F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean() for r, f in pairs]).mean()


def hinge_generator_loss(fake: Sequence[torch.Tensor]) -> torch.Tensor:
    """Hinge: fake scores to above 1; means as in ``hinge_discriminator_loss``."""
    return torch.stack([F.relu(1 - f.float()).mean() for f in fake]).mean()


def feature_matching_loss(
    real: Sequence[Sequence[torch.Tensor]], fake: Sequence[Sequence[torch.Tensor]], *, summed: bool = False
) -> torch.Tensor:
    """Mean absolute difference of what the sub-discriminators' layers give (arXiv 1910.06711), in float32.

    The mean over each layer's values, and then over all layers of all sub-discriminators: each layer counts the same,
    however large it is. HiFi-GAN's paper takes the sum over the layers and a smaller weight.

    Args:
        real, fake: the layers of each sub-discriminator. No gradients flow into ``real``.
        summed: take the sum over the layers, as the paper does.

    Returns:
        A scalar.
    """
    pairs = [pair for layers in zip(real, fake, strict=True) for pair in zip(*layers, strict=True)]
    distances = torch.stack([(f.float() - r.detach().float()).abs().mean() for r, f in pairs])
    return distances.sum() if summed else distances.mean()


def cosine_similarity(a: torch.Tensor, b: torch.Tensor, dim: int) -> torch.Tensor:
    """The cosine along a dimension, in float32; norms are taken as 1e-8 at least, so that zeros have gradients."""
    return F.cosine_similarity(a.float(), b.float(), dim=dim, eps=1e-8)


def distillation_over_time(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """-log sigmoid of the cosine over time of what each channel is like (arXiv 2308.16692, its "D axis").

    Args:
        student, teacher: [B, N, S].
        mask: [B, N] bool, the frames that count.

    Returns:
        [B], the mean over the channels: 0.3133 at a cosine of 1, 0.6931 at 0, 1.3133 at -1.
    """
    return -F.logsigmoid(cosine_over_time(student, teacher, mask)).mean(-1)


def cosine_over_time(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """[B, S], the cosines of ``distillation_over_time``."""
    kept = mask[..., None]
    return cosine_similarity(student.float().masked_fill(~kept, 0), teacher.float().masked_fill(~kept, 0), dim=1)


def distillation_over_channels(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, *, similarity: float = 1.0
) -> torch.Tensor:
    """Mean absolute difference, and -log sigmoid of the cosine over the channels of each frame (the "T axis").

    Args:
        student, teacher, mask: as for ``distillation_over_time``.
        similarity: weight of the second term.

    Returns:
        [B], the mean over a row's frames that count; 0 where there are none.
    """
    student, teacher = student.float(), teacher.float()
    frames = mask.sum(-1).clamp(min=1)
    difference = (student - teacher).abs().mean(-1).masked_fill(~mask, 0).sum(-1) / frames
    turned = -F.logsigmoid(cosine_similarity(student, teacher, dim=-1)).masked_fill(~mask, 0).sum(-1) / frames
    return difference + similarity * turned
