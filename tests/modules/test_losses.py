"""Losses against what they are by hand."""

from __future__ import annotations

import math

import pytest
import torch

from modules.losses import (
    cosine_over_time,
    distillation_over_channels,
    distillation_over_time,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)


def test_hinge_counts_what_is_on_the_wrong_side_and_every_discriminator_alike() -> None:
    real = [torch.tensor([2.0, 0.5]), torch.tensor([0.0])]
    fake = [torch.tensor([-3.0, 0.0]), torch.tensor([1.0])]
    assert hinge_discriminator_loss(real, fake) == pytest.approx(((0.25 + 0.5) + (1 + 2)) / 2)
    assert hinge_generator_loss(fake) == pytest.approx(((4 + 1) / 2 + 0) / 2)


def test_feature_matching_is_the_mean_or_the_sum_over_layers() -> None:
    real = [[torch.zeros(2), torch.zeros(3)], [torch.zeros(1)]]
    fake = [[torch.ones(2), 2 * torch.ones(3)], [torch.full((1,), -6.0)]]
    assert feature_matching_loss(real, fake) == 3 and feature_matching_loss(real, fake, summed=True) == 9


def test_distillation_is_that_of_the_cosine_over_time() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(3, 6, 2, generator=generator)
    ones = torch.ones(3, 6, dtype=torch.bool)
    for scale, cosine, loss in ((2.0, 1.0, 0.3133), (-0.5, -1.0, 1.3133)):
        torch.testing.assert_close(cosine_over_time(scale * teacher, teacher, ones), torch.full((3, 2), cosine))
        torch.testing.assert_close(
            distillation_over_time(scale * teacher, teacher, ones), torch.full((3,), loss), rtol=0, atol=1e-4
        )
    side = torch.tensor([1.0, 0, 0, 0, 0, 0])[None, :, None]
    assert distillation_over_time(side, side.roll(1, 1), ones[:1]) == pytest.approx(math.log(2))


def test_only_frames_that_count_are_compared() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(1, 9, 4, generator=generator) for _ in range(2))
    mask = torch.arange(9)[None] < 5
    for loss in (distillation_over_time, distillation_over_channels):
        torch.testing.assert_close(loss(a, b, mask), loss(a[:, :5], b[:, :5], mask[:, :5]))


def test_over_channels_it_is_a_distance_and_a_cosine_of_each_frame() -> None:
    a, b = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]), torch.tensor([[[0.0, 1.0], [2.0, 2.0]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    angles = (-math.log(1 / (1 + math.exp(0))) - math.log(1 / (1 + math.exp(-1)))) / 2
    assert distillation_over_channels(a, b, mask, similarity=3.0) == pytest.approx(1 + 3 * angles)


@pytest.mark.parametrize("loss", [distillation_over_time, distillation_over_channels])
def test_rows_of_zeros_and_rows_without_a_frame_have_gradients_that_are_finite(loss) -> None:
    student = torch.zeros(3, 5, 4, requires_grad=True)
    teacher = torch.stack([torch.zeros(5, 4), torch.randn(5, 4), torch.randn(5, 4)])
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[2] = False
    value = loss(student, teacher, mask)
    value.sum().backward()
    assert value.isfinite().all() and student.grad.isfinite().all()
