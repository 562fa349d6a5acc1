"""Draws of tokens: they follow from seed and step alone, and have the chances that they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modules.sampling import Draws, choose, require_sampling


def test_a_draw_follows_from_its_seed_and_step_alone() -> None:
    several, one = Draws([5, -5, 7]), Draws([-5])
    for step in (0, 255, 256, 999):
        assert several.at([1], [step]) == one.at([0], [step])
    later = Draws([7])
    assert later.at([0], [999]) == several.at([2], [999])  # without those before having been asked for
    assert Draws([5]).at([0], [0]) != Draws([-5]).at([0], [0])


def test_draws_have_the_chances_of_the_logits_within_top_p() -> None:
    logits = torch.tensor([2.0, 1.0, 0.5, -1.0, -torch.inf])
    count = 40000
    draws = torch.from_numpy(np.random.default_rng(0).random(count))
    found = choose(logits.expand(count, -1), draws, temperature=0.7, top_p=0.8)
    chances = (logits.double() / 0.7).softmax(0)
    kept = (chances.cumsum(0) - chances) <= 0.8  # they are in order of their chances
    expected = torch.where(kept, chances, 0.0) / chances[kept].sum()
    shares = torch.bincount(found, minlength=5) / count
    torch.testing.assert_close(shares.double(), expected, atol=0.01, rtol=0.0)
    assert int(kept.sum()) == 2 and not shares[2:].any()


def test_the_largest_draw_is_the_last_token_that_is_kept() -> None:
    logits = torch.zeros(1, 3)
    assert int(choose(logits, torch.tensor([np.nextafter(1.0, 0.0)]), temperature=1.0, top_p=1.0)) == 2
    assert int(choose(logits, torch.tensor([0.0]), temperature=1.0, top_p=1.0)) == 0


@pytest.mark.parametrize("settings", [{"temperature": 0.0, "top_p": 1.0}, {"temperature": 1.0, "top_p": 0.0}])
def test_without_chance_the_likeliest_is_taken(settings: dict[str, float]) -> None:
    assert choose(torch.tensor([[0.0, 3.0, 3.0]]), None, **settings).tolist() == [1]


@pytest.mark.parametrize("settings", [(-0.1, 0.5), (float("nan"), 0.5), (float("inf"), 0.5), (1.0, 1.5), (1.0, -0.1)])
def test_settings_that_cannot_be_are_refused(settings: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"temperature|top_p"):
        require_sampling(*settings)
