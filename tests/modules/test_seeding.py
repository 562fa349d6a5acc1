"""Where k-means begins: frames of a stream, and k-means++."""

from __future__ import annotations

import pytest
import torch

from modules.seeding import plus_plus, sample_frames


def test_frames_of_a_stream_are_drawn_with_equal_probability() -> None:
    torch.manual_seed(0)
    stream = torch.arange(60.0)[:, None]
    drawn = torch.zeros(60)
    for _ in range(500):
        sample = sample_frames(([part, -part] for part in stream.split([1, 30, 5, 24])), 12)
        assert sample.shape == (2, 12, 1) and torch.equal(sample[0], -sample[1])  # the same frames of each layer
        assert len(sample[0].unique()) == 12
        drawn[sample[0].flatten().long()] += 1
    assert 60 < drawn.min() and drawn.max() < 140  # 100 +- 4 standard deviations
    assert sample_frames([[stream]], 100).shape == (1, 60, 1)
    with pytest.raises(ValueError, match="no batch"):
        sample_frames([], 12)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_plus_plus_finds_clusters_that_lie_apart(offset: float) -> None:
    torch.manual_seed(0)
    means = 100 * torch.randn(20, 16)
    which = torch.cat([torch.arange(20), torch.zeros(980, dtype=torch.int64)])  # nearly all in one
    frames = means[which] + torch.randn(1000, 16) + offset
    chosen = plus_plus(frames, 20)
    assert len(torch.cdist(chosen, means + offset).argmin(-1).unique()) == 20
    more = plus_plus(frames, 6, given=means[6:] + offset)
    assert torch.cdist(more, means + offset).argmin(-1).sort().values.tolist() == [0, 1, 2, 3, 4, 5]


def test_plus_plus_follows_from_its_generator() -> None:
    frames = torch.randn(300, 4)
    draws = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        draws.append(plus_plus(frames, 30, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(*draws)
    torch.manual_seed(2)
    same = [plus_plus(frames, 30), torch.manual_seed(2) and plus_plus(frames, 30)]
    assert torch.equal(*same) and not torch.equal(same[0], draws[0])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_frames_that_are_the_same_are_no_two_centres(scale: float) -> None:
    torch.manual_seed(0)
    different = scale * (torch.randn(10, 64) + 3)
    frames = different.repeat(50, 1)
    assert len(plus_plus(frames, 10).unique(dim=0)) == 10
    with pytest.raises(ValueError, match="of 500 frames fewer than 11 are different"):
        plus_plus(frames, 11)
    with pytest.raises(ValueError, match="500 frames cannot be 501 centres"):
        plus_plus(frames, 501)
