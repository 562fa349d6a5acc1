"""K-means as a task of the training loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.kmeans import batch_of, task


def test_padding_and_rows_without_a_frame_do_not_count() -> None:
    torch.manual_seed(0)
    batch, found = batch_of(160, 90, 15, 0, 33), task()
    found.prepare(iter([batch]))
    assert found.codebooks.reservoir.shape == (2, 10 + 5 + 2, 16)
    assert found.codebooks.reservoir.abs().max() < 100 and found.codebooks.centres.abs().max() < 100
    (objective,) = found.objectives(batch, found.networks())
    objective.loss.backward()
    assert float(found.codebooks.counts.grad[0].sum()) == pytest.approx(17 / 5)
    with torch.no_grad():
        metrics = found.evaluate(batch)
    assert metrics["inertia"][1] == 17
    for layer in (1, 2):
        own = [layer * batch["wav"][row, : 16 * n].view(n, 16) for row, n in ((0, 10), (1, 5), (4, 2))]
        centres = found.codebooks.centres[layer - 1].detach()
        want = torch.cdist(torch.cat(own), centres).amin(-1).square().mean()
        total, count = metrics[f"inertia_layer_{layer}"]
        assert float(total) / count == pytest.approx(float(want), rel=1e-5)
        assert float(objective.metrics[f"inertia_layer_{layer}"]) == pytest.approx(float(want), rel=1e-5)


def test_a_batch_without_any_frame_changes_nothing() -> None:
    found = task(patience=10)
    found.prepare(iter([batch_of(160, 160)]))
    optimizer = found.optimizers()["codebooks"]
    before = found.codebooks.centres.detach().clone()
    (objective,) = found.objectives(batch_of(10, 0), found.networks())
    objective.loss.backward()
    optimizer.step()
    assert torch.equal(found.codebooks.centres, before) and not found.codebooks.counts.any()
    assert all(bool(value.isfinite()) for value in objective.metrics.values())


def test_the_reservoir_is_of_the_first_batches_and_is_not_saved() -> None:
    asked = []

    def stream() -> Iterator[dict[str, torch.Tensor]]:
        for number in range(10):
            asked.append(number)
            yield batch_of(*[160] * 20, seed=number)

    found = task(reservoir_batches=3, reservoir_frames=500)
    found.prepare(stream())
    assert asked == [0, 1, 2] and found.codebooks.reservoir.shape == (2, 500, 16)
    for number in range(3):  # of each of them
        frames = batch_of(*[160] * 20, seed=number)["wav"].view(-1, 16)
        assert (torch.cdist(found.codebooks.reservoir[0], frames).amin(-1) < 1e-4).sum() > 100
    assert {name.rpartition(".")[2] for name in found.state_dict()} == {"centres", "counts", "idle", "reseeded"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (dict(reservoir_frames=4), "reservoir_frames must be at least num_clusters, got 4 and 5"),
        (dict(num_clusters=0), "num_clusters and reservoir_batches must be above 0, got 0 and 8"),
        (dict(reservoir_batches=0), "must be above 0, got 5 and 0"),
        (dict(precision="fp12"), "fp12"),
        (dict(export_format="joblib"), "safetensors, released .* got 'joblib' and 'float32'"),
        (dict(export_dtype="int8"), "float32, float16, got 'safetensors' and 'int8'"),
    ],
)
def test_settings_that_cannot_be_are_refused(more: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task(**more)


@pytest.mark.parametrize("more", [dict(decay=0.0), dict(decay=1.1), dict(patience=0)])
def test_and_those_of_the_optimizer(more: dict) -> None:
    with pytest.raises(ValueError, match=r"decay must be in \(0, 1\] and patience above 0, got"):
        task(**more).optimizers()


def test_too_few_frames_or_too_few_that_differ_are_an_error_that_says_so() -> None:
    found = task(num_clusters=30, reservoir_frames=30, reservoir_batches=2)
    with pytest.raises(ValueError, match=r"num_clusters is 30, but the first 2 batches \(reservoir_batches\) have 20"):
        found.prepare(batch_of(160, seed=seed) for seed in range(3))
    silence = {"wav": torch.zeros(4, 160), "length": torch.full((4,), 160)}
    with pytest.raises(ValueError, match="num_clusters is 5, but of 20 frames fewer than 5 are different in layer_1"):
        task().prepare(iter([silence]))
    with pytest.raises(ValueError, match="no batch"):
        task().prepare(iter([]))
