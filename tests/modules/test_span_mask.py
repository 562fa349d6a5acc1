"""Which frames are hidden."""

from __future__ import annotations

import pytest
import torch

from modules.span_mask import span_mask


def test_spans_have_their_length_and_the_share_is_as_said() -> None:
    torch.manual_seed(0)
    mask = span_mask(torch.full((400,), 300), 300, probability=0.08, length=10)
    assert mask[:, 20:].float().mean() == pytest.approx(1 - 0.92**10, abs=0.01)
    edges = mask[:, 1:] & ~mask[:, :-1]
    starts = edges.nonzero()
    assert all(mask[row, start + 1 : start + 11].all() for row, start in starts.tolist() if start < 288)


def test_none_beyond_a_rows_own_and_one_at_least() -> None:
    frames = torch.tensor([0, 1, 3, 50])
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        mask = span_mask(frames, 60, probability=0.001, length=4, generator=generator)
        assert all(not row[n:].any() for row, n in zip(mask, frames.tolist(), strict=True))
        assert mask.any(dim=1).tolist() == [False, True, True, True]


def test_a_generator_decides_and_wrong_settings_are_named() -> None:
    draws = [
        span_mask(torch.tensor([90]), 90, probability=0.1, length=5, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    with pytest.raises(ValueError, match="got 0 and 5"):
        span_mask(torch.tensor([90]), 90, probability=0, length=5)
