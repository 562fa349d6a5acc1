"""SI-SDR of batches."""

from __future__ import annotations

import pytest
import torch

from modules.si_sdr import si_sdr
from tests.limuse import expected


@pytest.mark.parametrize("which", ["a", "b"])
def test_it_is_what_the_published_code_computes(which: str) -> None:
    estimate, target, lengths, wanted = (
        expected()[f"loss/{which}/{name}"] for name in ("estimate", "target", "lengths", "si_sdr")
    )
    kept = estimate.clone(), target.clone()
    found = si_sdr(estimate, target, lengths)
    assert (found - wanted).abs().max() < 1e-3
    assert torch.equal(estimate, kept[0]) and torch.equal(target, kept[1])
    padding = torch.arange(estimate.shape[1]) >= lengths[:, None]
    assert torch.equal(si_sdr(estimate.masked_fill(padding, torch.nan), target, lengths), found)


def test_neither_gain_nor_offset_nor_the_rest_of_the_batch_matter() -> None:
    draw = torch.Generator().manual_seed(0)
    estimate, target = torch.randn(2, 2, 4000, generator=draw)
    estimate += target
    found = si_sdr(estimate, target)
    assert (si_sdr(3 * estimate + 0.5, target - 0.2) - found).abs().max() < 1e-3
    assert (si_sdr(estimate[1:], target[1:]) - found[1:]).abs().max() < 1e-4
    assert (si_sdr(estimate, target, torch.tensor([4000, 4000])) - found).abs().max() < 1e-4


def test_a_silent_target_has_a_finite_gradient() -> None:
    estimate = torch.randn(2, 100, requires_grad=True)
    si_sdr(estimate, torch.zeros(2, 100), torch.tensor([100, 0])).sum().backward()
    assert estimate.grad.isfinite().all()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 5\] and \[2, 6\]"):
        si_sdr(torch.zeros(2, 5), torch.zeros(2, 6))
