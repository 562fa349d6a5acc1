"""Few-bit weights and rounded activations."""

from __future__ import annotations

import pytest
import torch

from models.limuse.quantiser import WeightQuantiser, kmeans_thresholds, round_activations, starts, uniform_thresholds


def weights() -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(8, 4, generator=draw), torch.randn(30, 1, 3, generator=draw) * 0.01]


@pytest.mark.parametrize("thresholds", ["kmeans", "uniform"])
@pytest.mark.parametrize("bits", range(2, 9))
def test_every_number_of_bits_starts(bits: int, thresholds: str) -> None:
    """Also of tensors that have fewer values than there are levels, or one alone."""
    given = [
        *weights(),
        torch.tensor([[0.3]]),
        torch.zeros(4, 2),
        torch.full((3, 3), -0.2),
        torch.tensor([[1e-42, 0.0]]),
    ]
    quantiser = WeightQuantiser(count=len(given), bits=bits)
    quantiser.start(given, thresholds)
    assert (quantiser.thresholds.diff(dim=1) >= 0).all() and quantiser.thresholds.shape[1] == 2**bits - 2
    for values in (quantiser.hard(given), quantiser.soft(given, 5.0)):
        assert all(x.isfinite().all() and x.shape == w.shape for x, w in zip(values, given, strict=True))
    m = 2 ** (bits - 1) - 1
    assert torch.allclose(quantiser.beta[0], 1.25 * m / given[0].abs().max())
    assert torch.allclose(quantiser.alpha, 1 / quantiser.beta)


def test_uniform_thresholds_give_the_nearest_level() -> None:
    (w, *_), quantiser = weights(), WeightQuantiser(count=1, bits=6)
    quantiser.start([w], "uniform")
    alpha = quantiser.alpha[0]
    assert torch.allclose(quantiser.hard([w])[0], torch.round(w / alpha).clamp(-31, 31) * alpha, atol=1e-6)


def test_kmeans_finds_clusters_that_there_are() -> None:
    centres = torch.tensor([-3.0, -1.0, 4.0])
    values = (centres[:, None] + torch.linspace(-0.2, 0.2, 9)).flatten()
    assert torch.allclose(kmeans_thresholds(values[torch.randperm(27)], 1), torch.tensor([-2.0, 1.5]))


def test_kmeans_is_as_good_as_that_of_scikit_learn() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    values = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    labels = torch.bucketize(values, kmeans_thresholds(values, 3))
    error = sum(float((x - x.mean()).square().sum()) for k in range(7) for x in [values[labels == k]])
    theirs = cluster.KMeans(7, n_init=10, random_state=0).fit(values[:, None].numpy()).inertia_
    assert error < 1.01 * theirs


def test_few_values_get_the_uniform_thresholds() -> None:
    assert torch.equal(kmeans_thresholds(torch.tensor([0.0, 1.0, 1.0]), 3), uniform_thresholds(3))


def test_gradients_are_those_of_the_formula() -> None:
    given, quantiser = [w.double().requires_grad_() for w in weights()], WeightQuantiser(count=2, bits=3).double()
    quantiser.start([w.detach() for w in given])
    scales = [quantiser.alpha, quantiser.beta]

    def formula(temperature: float) -> torch.Tensor:
        total = 0.0
        for w, alpha, beta, steps in zip(given, *scales, quantiser.thresholds, strict=True):
            z = torch.clip(temperature * (beta * w[..., None] - steps), -20, 20)
            total = total + (alpha * (torch.sigmoid(z).sum(-1) - quantiser.m)).pow(2).sum()
        return total

    for temperature in (1.0, 25.0):
        made = sum(x.pow(2).sum() for x in quantiser.soft(given, temperature))
        wanted = formula(temperature)
        assert torch.allclose(made, wanted)
        pairs = zip(*(torch.autograd.grad(x, [*given, *scales]) for x in (made, wanted)), strict=True)
        assert all(torch.allclose(a, b) for a, b in pairs)


def test_a_hot_step_is_a_hard_one() -> None:
    quantiser = WeightQuantiser(count=2, bits=3)
    quantiser.start(weights())
    for soft, hard in zip(quantiser.soft(weights(), 2000.0), quantiser.hard(weights()), strict=True):
        assert (soft - hard).abs().max() < 0.5 * quantiser.alpha.max()


def test_activations() -> None:
    x = torch.randn(4, 3, 5)
    y = round_activations(x, 8, 2)
    for some, rounded in zip(x.view(2, -1), y.view(2, -1), strict=True):  # each example has a range of its own
        step = (some.max() - some.min()) / 255
        assert (some - rounded).abs().max() <= 0.501 * step
        assert len(rounded.unique()) <= 256 and torch.allclose(rounded.min(), some.min())
    assert round_activations(x, None, 2) is x


def test_a_constant_stays_as_it_is() -> None:
    x = torch.full((2, 7), 0.3)
    assert torch.equal(round_activations(x, 8, 2), x)


def test_the_gradient_passes_rounding() -> None:
    x = torch.randn(2, 7, requires_grad=True)
    (round_activations(x, 4, 2) * 3).sum().backward()
    assert torch.equal(x.grad, torch.full((2, 7), 3.0))


def test_other_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="thresholds must be one of kmeans, uniform, got 'mean'"):
        starts([], 3, "mean")
