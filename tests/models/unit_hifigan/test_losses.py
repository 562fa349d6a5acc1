"""The losses of the unit HiFi-GAN, against speechbrain's."""

from __future__ import annotations

import pytest
import torch
from speechbrain.lobes.models.HifiGAN import (
    DiscriminatorLoss,
    GeneratorLoss,
    L1SpecLoss,
    MelganFeatureLoss,
    MSEDLoss,
    MSEGLoss,
)

from modules.losses import feature_matching_loss, lsgan_discriminator_loss, lsgan_generator_loss
from modules.mel import MelDistance
from tests.unit_hifigan import make, make_batch


def test_the_losses_are_speechbrains() -> None:
    random = torch.Generator().manual_seed(0)
    real, fake = ([torch.randn(2, n, generator=random) for n in (5, 40, 7)] for _ in range(2))
    layers = [[torch.randn(2, c, n, generator=random) for c, n in ((4, 50), (8, 9), (1, 3))] for _ in range(6)]
    wav, made = make_batch(2)["wav"], make_batch(2, seed=1)["wav"]
    theirs = GeneratorLoss(
        mseg_loss=MSEGLoss(),
        mseg_loss_weight=1,
        feat_match_loss=MelganFeatureLoss(),
        feat_match_loss_weight=10,
        l1_spec_loss=L1SpecLoss(sample_rate=16000, hop_length=256, win_length=1024, n_mel_channels=80, n_fft=1024),
        l1_spec_loss_weight=45,
    )(None, made[:, None], wav[:, None], fake, layers[:3], layers[3:])
    ours = (
        45 * MelDistance()(made, wav) + lsgan_generator_loss(fake) + 10 * feature_matching_loss(layers[3:], layers[:3])
    )
    torch.testing.assert_close(ours, theirs["G_loss"], rtol=1e-5, atol=1e-5)
    theirs = DiscriminatorLoss(MSEDLoss())(fake, real)["D_loss"]
    torch.testing.assert_close(lsgan_discriminator_loss(real, fake), theirs)


@pytest.mark.slow
def test_the_losses_are_float32_and_reach_their_weights(discriminator) -> None:
    """The generator's is the weighted sum of what it logs, also where the networks compute in bfloat16."""
    task = make(discriminator, mel_weight=2.0, adversarial_weight=3.0, feature_weight=5.0).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first, second = task.objectives(make_batch(), task.networks())
    assert first.loss.dtype == second.loss.dtype == torch.float32
    parts = second.metrics
    torch.testing.assert_close(
        second.loss.detach(), 2 * parts["mel"] + 3 * parts["adversarial"] + 5 * parts["features"]
    )
    (first.loss + second.loss).backward()
    for p in task.parameters():
        assert p.grad.dtype == torch.float32 and p.grad.isfinite().all()
