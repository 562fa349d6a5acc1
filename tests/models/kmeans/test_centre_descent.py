"""A step of k-means: against scikit-learn, with decay, and of centres without frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus

from models.kmeans.centre_descent import CentreDescent
from modules.seeding import plus_plus, sample_frames
from tests.kmeans import batches, books_at, correlated, descend, inertia, mixture


def test_each_step_is_that_of_scikit_learn() -> None:
    """Without decay and with nothing to re-seed: the same centres after each batch."""
    x, start = mixture(), mixture()[:64]
    theirs = MiniBatchKMeans(64, init=start.astype("f8"), n_init=1, reassignment_ratio=0)
    ours = books_at(torch.from_numpy(start))
    optimizer = CentreDescent(ours, patience=10**6)
    for batch in batches(x, size=512, passes=1, seed=0):
        theirs.partial_fit(batch.astype("f8"))
        descend(ours, optimizer, torch.from_numpy(batch))
        np.testing.assert_allclose(ours.centres[0].detach().numpy(), theirs.cluster_centers_, atol=1e-4)
    np.testing.assert_allclose(8 * ours.counts[0].detach().numpy(), theirs._counts, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [mixture, correlated])
@pytest.mark.parametrize(("size", "passes"), [(1024, 1), (256, 2)])
def test_the_inertia_is_not_above_that_of_scikit_learn(make, size: int, passes: int) -> None:
    """The same batches, each with its own k-means++ on the same reservoir; the mean of eight starts."""
    x, clusters = make(), 64
    found: dict[str, list[float]] = {"decay 1": [], "decay 0.99": [], "scikit-learn": []}
    for seed in range(8):
        torch.manual_seed(seed)
        reservoir = sample_frames([[torch.from_numpy(x)]], 20 * clusters)[0]
        begin = plus_plus(reservoir, clusters)
        ours = {decay: books_at(begin, reservoir=reservoir) for decay in (1, 0.99)}
        optimizers = {decay: CentreDescent(books, decay=decay, patience=30) for decay, books in ours.items()}
        begin = kmeans_plusplus(reservoir.double().numpy(), clusters, random_state=seed)[0]
        theirs = MiniBatchKMeans(clusters, init=begin, n_init=1, random_state=seed)
        for batch in batches(x, size=size, passes=passes, seed=seed):
            for decay, books in ours.items():
                descend(books, optimizers[decay], torch.from_numpy(batch))
            theirs.partial_fit(batch.astype("f8"))
        for decay, books in ours.items():
            found[f"decay {decay}"].append(inertia(x, books.centres[0].detach().numpy()))
        found["scikit-learn"].append(inertia(x, theirs.cluster_centers_.astype("f4")))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    print(make.__name__, size, passes, {name: round(value / means["scikit-learn"], 4) for name, value in means.items()})
    assert means["decay 1"] < 1.02 * means["scikit-learn"]
    assert means["decay 0.99"] < 1.02 * means["scikit-learn"] and means["decay 0.99"] < means["decay 1"]
    drawn = x[np.random.default_rng(0).choice(len(x), clusters, replace=False)]
    assert inertia(x, drawn) > 1.5 * means["scikit-learn"]  # it is no easy task


def test_with_decay_a_centre_is_the_mean_of_what_it_had_lately() -> None:
    books = books_at(torch.zeros(1, 1))
    optimizer = CentreDescent(books, decay=0.5)
    for value in (8.0, 4.0, 2.0):
        descend(books, optimizer, torch.full((8, 1), value))
    assert books.centres.item() == pytest.approx((8 * 0.25 + 4 * 0.5 + 2) / 1.75)


def dead_at_the_start() -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of 16 Gaussians, and as many centres: ten far from all frames, two that are the same, four good ones."""
    torch.manual_seed(0)
    means = 20 * torch.randn(16, 8)
    frames = means.repeat(64, 1) + torch.randn(1024, 8)
    return frames, torch.cat([torch.full((10, 8), 1e4) + torch.randn(10, 8), means[:1].repeat(2, 1), means[1:5]])


def test_centres_without_frames_are_put_where_frames_are() -> None:
    frames, start = dead_at_the_start()
    found = {}
    for patience in (3, 10**6):
        books = books_at(start, start.flip(0), reservoir=frames)
        optimizer = CentreDescent(books, patience=patience)
        for step in range(1, 21):
            descend(books, optimizer, frames)
            assert (int(books.reseeded) >= 20) is (step >= patience)  # those that are the same may share their frames
        found[patience] = inertia(frames.numpy(), books.centres[0].detach().numpy())
        assert bool((books.counts > 0).all()) is (patience == 3)
    assert found[3] < 0.1 * found[10**6]


def test_centres_that_are_moved_go_to_the_same_place_in_every_process() -> None:
    """Whatever a process draws for itself."""
    frames, start = dead_at_the_start()
    found = []
    for seed in (0, 1):
        books = books_at(start, reservoir=frames)
        optimizer = CentreDescent(books, patience=1)
        torch.manual_seed(seed)
        descend(books, optimizer, frames)
        found.append(books.centres.detach())
        moved = books.counts[0] == 0
        assert moved.sum() == books.reseeded >= 10 and not books.idle.any()
        assert bool((books.centres[0, moved, None] == frames).all(-1).any(-1).all())  # onto frames
    assert torch.equal(*found)
