"""Training of the unit HiFi-GAN: whose gradients are whose, and layer dropout."""

from __future__ import annotations

import pytest
import torch
from speechbrain.lobes.models.HifiGAN import (
    UnitHifiganGenerator,
)

from tests.no_sync import NoSync
from tests.unit_hifigan import ARGUMENTS, CPU, V, gradients, make, make_batch
from utils.descent import Descent
from utils.progress import Averages


@pytest.mark.slow
def test_the_discriminators_step_first_and_the_fake_is_computed_once(discriminator) -> None:
    task = make(discriminator).train()
    calls = []
    task.generator.register_forward_hook(lambda *_: calls.append(1))
    objectives = task.objectives(make_batch(), task.networks())
    first = next(objectives)
    assert first.optimizer == "discriminator"
    first.loss.backward()
    assert all(g is None for g in gradients(task.generator))  # they learn on the detached fake
    before = gradients(task.discriminator)
    assert all(g is not None and g.abs().sum() > 0 for g in before)
    second = next(objectives)
    assert second.optimizer == "generator"
    second.loss.backward()
    assert all(g is not None and g.isfinite().all() for g in gradients(task.generator))
    for a, b in zip(gradients(task.discriminator), before, strict=True):
        assert torch.equal(a, b)
    assert all(p.requires_grad for p in task.parameters())
    assert next(objectives, None) is None and len(calls) == 1


def test_the_generator_meets_the_discriminators_that_have_stepped(period_discriminators) -> None:
    """Between the objectives their scores become 0, which is 1 away from what the generator wants of each."""
    task = make(period_discriminators, mel_weight=0.0, feature_weight=0.0).train()
    objectives = task.objectives(make_batch(), task.networks())
    next(objectives)
    with torch.no_grad():
        for part in task.discriminator.mpd.discriminators:
            part.conv_post.conv.parametrizations.weight.original0.zero_()
            part.conv_post.conv.bias.zero_()
    assert float(next(objectives).loss.detach()) == pytest.approx(2.0)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.slow
def test_accumulation_trains_the_same_weights(period_discriminators, recompute: bool) -> None:
    """The generator's gradients were against discriminators of the step before, but for the last micro-batch. A test
    with a learning rate of 0 could not see it."""
    batches = [make_batch(4, seed=seed) for seed in (1, 2)]
    found = []
    for accumulate in (1, 2, 4):
        settings = dict(layer_dropout=False, mel_weight=0.0, recompute_fake=recompute and accumulate > 1)
        task = make(period_discriminators, **settings).train()
        networks = task.networks().items()
        # far enough that the discriminators after a step are others than before: the generator's were 0.009 off
        optimizers = {n: torch.optim.SGD(net.parameters(), lr={"generator": 0.1}.get(n, 0.5)) for n, net in networks}
        descent = Descent(optimizers, CPU, accumulate=accumulate)
        for batch in batches:
            rows = zip(*(x.chunk(accumulate) for x in batch.values()), strict=True)
            descent.step(task, task.networks(), (dict(zip(batch, row, strict=True)) for row in rows), Averages())
        found.append(task.state_dict())
    start = make(period_discriminators).state_dict()
    assert all(
        any(not torch.equal(x, start[n]) for n, x in found[0].items() if n.startswith(net))
        for net in ("generator", "discriminator")
    )
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)


def test_without_discriminators_the_mel_loss_trains_alone() -> None:
    task = make(None).train()
    assert list(task.networks()) == list(task.optimizers()) == ["generator"]
    (objective,) = task.objectives(make_batch(), task.networks())
    torch.testing.assert_close(objective.loss.detach(), 45 * objective.metrics["mel"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.slow
def test_one_batch_is_learnt(period_discriminators, precision: str) -> None:
    """The mel distance falls to a quarter, in some tens of steps."""
    task = make(period_discriminators).train()
    descent = Descent(task.optimizers(), CPU, precision=precision)
    batch, distances = make_batch(1), []
    while len(distances) < 100 and (len(distances) < 2 or distances[-1] > 0.25 * distances[0]):
        averages = Averages()
        descent.step(task, task.networks(), iter([batch]), averages)
        distances.append(averages.pop()["mel"])
    assert distances[-1] <= 0.25 * distances[0]


def test_the_host_does_not_wait_for_the_device(discriminator) -> None:
    task = make(discriminator).train()
    batch = make_batch()
    with NoSync():
        for objective in task.objectives(batch, task.networks()):
            objective.loss.backward()


def test_layer_dropout_takes_every_number_of_layers_but_all_from_whole_items() -> None:
    task = make(None).train()
    tokens = torch.randint(0, V, (6000, 4, 3))
    ids = task.ids(tokens)
    missing = ids == 0
    assert torch.equal(missing, missing[:, :1].expand_as(missing))  # of the whole item
    assert torch.equal(ids[~missing], (tokens + 1 + V * torch.arange(3))[~missing])
    count = missing[:, 0].sum(dim=1)
    shares = torch.bincount(count, minlength=4) / len(count)
    torch.testing.assert_close(shares, torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]), rtol=0, atol=0.03)
    torch.testing.assert_close(missing[:, 0].float().mean(dim=0), torch.full((3,), 1 / 3), rtol=0, atol=0.03)


def test_layer_dropout_follows_torchs_seed() -> None:
    task = make(None).train()
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(task.ids(torch.zeros(50, 1, 3, dtype=torch.int64)))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_validation_keeps_all_layers() -> None:
    tokens = torch.randint(0, V, (500, 1, 3))
    assert (make(None).eval().ids(tokens) > 0).all()
    assert (make(None, layer_dropout=False).train().ids(tokens) > 0).all()


def test_what_does_not_fit_is_refused(discriminator) -> None:
    with pytest.raises(ValueError, match="3 layers of 11 clusters, .* need 34 embeddings; the generator's .* is 31"):
        make(discriminator, vocab_size=11)
    with pytest.raises(ValueError, match="a discriminator needs a discriminator_optimizer"):
        make(discriminator, discriminator_optimizer=None)
    with pytest.raises(ValueError, match="built without duration_predictor"):
        make(discriminator, generator=UnitHifiganGenerator(**ARGUMENTS, duration_predictor=True))
    task, batch = make(discriminator), make_batch()
    for wrong in ({"wav": batch["wav"][:, :-1]}, {"tokens": batch["tokens"][..., :2]}):
        with pytest.raises(ValueError, match="makes 320 samples of each frame of 3 tokens; got"):
            next(task.objectives({**batch, **wrong}, task.networks()))
