from __future__ import annotations

import pytest
import torch

from tests.toy import RECIPE, VARIANTS, expected, read, settings
from utils.recipe import Recipe


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    kinds = {"mixture": ("mix_clean", 48080), "target": ("s1", 48080), "enrolment": ("aux_s1", 64080)}
    return {role: torch.cat([read(kind, u, n) for u in ("utt0", "utt1")]) for role, (kind, n) in kinds.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_objective_and_evaluation_agree(batch, variant: str) -> None:
    torch.manual_seed(0)
    task = Recipe(RECIPE, overrides=settings(**VARIANTS[variant])).build("task")["task"].eval()
    with torch.no_grad():
        (objective,) = task.objectives(batch, task.networks())
        means = {name: float(total) / count for name, (total, count) in task.evaluate(batch).items()}
    assert float(objective.loss) == pytest.approx(means["loss"], rel=1e-5)
    assert float(objective.metrics["error"]) == pytest.approx(means["error"], rel=1e-5)
    layers = [value for name, value in means.items() if name.startswith("error_layer")]
    assert len(layers) == 6 and sum(layers) / 6 == pytest.approx(means["error"], rel=1e-6)
    target = torch.cat([expected()[f"l/{u}/tokens_clean"] for u in ("utt0", "utt1")])
    if variant != "nocat":
        whole = [expected()[f"l/{u}/tokens_regi_mix_regi"][:, 200:350] for u in ("utt0", "utt1")]
        copied = 100 * (torch.cat(whole) != target).double().mean()
        assert means["copy_error"] == pytest.approx(float(copied), rel=1e-6)


def test_in_train_mode_the_tokens_of_a_fixed_input_do_not_change(batch) -> None:
    """The reference's WavLM has dropout, layer drop and SpecAugment on in its config."""
    torch.manual_seed(0)
    task = Recipe(RECIPE, overrides=settings(lr=0.01)).build("task")["task"].train()
    optimizer = task.optimizers()["network"]
    want = expected()["l/utt0/tokens_clean"]
    for _ in range(3):
        assert torch.equal(task.front_end.encode(read("s1", "utt0", 48080)), want)
        (objective,) = task.objectives(batch, task.networks())
        objective.loss.backward()
        optimizer.step()
    assert torch.equal(task.front_end.encode(read("s1", "utt0", 48080)), want)


def test_only_the_network_trains(batch) -> None:
    task = Recipe(RECIPE, overrides=settings()).build("task")["task"]
    trained = {id(p) for group in task.optimizers()["network"].param_groups for p in group["params"]}
    assert trained == {id(p) for p in task.network.parameters()}
    assert all(p.requires_grad == (id(p) in trained) for p in task.parameters())


def test_media_are_what_the_log_can_show(batch) -> None:
    recipe = Recipe(RECIPE, overrides=settings())
    assert not recipe.build("task")["task"].media(batch).audio
    built = recipe.build("task", "vocoder")
    task = built["task"]
    task.vocoder = built["vocoder"]
    media = task.eval().media(batch)
    assert set(media.audio) == {"mixture", "target", "enrolment", "target_decoded", "extracted"} == set(media.images)
    assert all(wav.ndim == 1 and wav.abs().max() <= 1 for wav in media.audio.values())


@torch.no_grad()
def test_validation_tokenises_an_item_once(batch, monkeypatch) -> None:
    task = Recipe(RECIPE, overrides=settings()).build("task")["task"].eval()
    first = task.evaluate({**batch, "key": torch.tensor([5, 7])})
    monkeypatch.setattr(task.front_end, "encode", None)  # whoever tokenises now fails
    again = task.evaluate({**batch, "key": torch.tensor([5, 7])})
    assert all(float(again[name][0]) == float(value) for name, (value, _) in first.items())
    swapped = {name: value.flip(0) for name, value in batch.items()}
    turned = task.evaluate({**swapped, "key": torch.tensor([7, 5])})
    assert float(turned["error"][0]) == pytest.approx(float(first["error"][0]), rel=1e-6)
    with pytest.raises(TypeError):
        task.evaluate({**batch, "key": torch.tensor([5, 8])})


@torch.no_grad()
def test_what_is_kept_is_what_would_be_computed(batch) -> None:
    task = Recipe(RECIPE, overrides=settings()).build("task")["task"].eval()
    plain = task.evaluate(batch)
    kept = task.evaluate({**batch, "key": torch.tensor([1, 2])})
    assert {name: float(value) for name, (value, _) in plain.items()} == {n: float(v) for n, (v, _) in kept.items()}
