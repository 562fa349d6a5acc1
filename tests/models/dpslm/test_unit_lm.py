"""The unit language model: published numbers, batches, files, training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.unit_chunks import UnitUtterances
from models.dpslm.language_files import LanguageFile
from models.dpslm.mistral import write_mistral
from models.dpslm.unit_lm_files import read_unit_lm, write_unit_lm
from models.dpslm.unit_lm_network import UnitNetwork
from models.dpslm.unit_lm_task import UnitLanguage
from tests.dpslm import DIMS, REFERENCE, UTTERANCES, collapsed, expected, lm_settings, unit_lm

PROMPTS = [collapsed(name) for name in UTTERANCES]


def test_logits_scores_and_greedy_continuations_are_the_published_ones() -> None:
    model = unit_lm()
    torch.testing.assert_close(model.logits(expected()["lm/ids"][None])[0], expected()["lm/logits"], rtol=0, atol=1e-4)
    scores = model.score(PROMPTS)
    np.testing.assert_allclose(scores, [float(expected()[f"lm/score/{name}"]) for name in UTTERANCES], rtol=1e-5)
    for name, found in zip(UTTERANCES, model.generate(PROMPTS, seeds=[0] * 4, temperature=0.0), strict=True):
        assert torch.equal(found, expected()[f"lm/greedy/{name}"])


def test_a_batch_gives_what_each_has_alone_and_repeats_count_for_nothing() -> None:
    model = unit_lm(max_units=40)
    doubled = [prompt.repeat_interleave(2) for prompt in PROMPTS]
    np.testing.assert_allclose(model.score(doubled), [model.score([p])[0] for p in PROMPTS], rtol=1e-6)
    seeds = [3, 1, 4, 1]
    together = model.generate(doubled, seeds=seeds)
    alone = [model.generate([prompt], seeds=[seed])[0] for prompt, seed in zip(PROMPTS, seeds, strict=True)]
    assert all(map(torch.equal, together, alone))
    turned = model.generate(PROMPTS[::-1], seeds=seeds[::-1])[::-1]
    assert all(map(torch.equal, together, turned))


def test_a_continuation_equals_the_plain_loop_over_the_whole_prefix() -> None:
    from modules.sampling import Draws, choose

    model = unit_lm(max_units=30, temperature=1.1, top_p=0.9)
    ids, draws = [0, *(PROMPTS[1] + 1).tolist()], Draws([9])
    new = []
    for step in range(30):
        logits = model.logits(torch.tensor([ids]))[:, -1]
        logits[:, ids[-1]] = -torch.inf
        if step == 0:
            logits[:, 0] = -torch.inf
        drawn = int(choose(logits, torch.from_numpy(draws.at([0], [step])), temperature=1.1, top_p=0.9))
        if drawn == 0:
            break
        ids.append(drawn)
        new.append(drawn - 1)
    assert model.generate([PROMPTS[1]], seeds=[9])[0].tolist() == new


def test_how_a_continuation_ended_is_told() -> None:
    ends = unit_lm()
    with torch.no_grad():
        ends.network.output.weight.zero_()  # all are equally likely, so BOS is drawn at last
    found = ends.go_on([PROMPTS[0]] * 8, seeds=range(8), max_units=60)
    assert any(not one.was_cut for one in found)
    assert all(len(one.units) == 60 if one.was_cut else 1 <= len(one.units) < 60 for one in found)
    later = unit_lm(min_units=50)
    later.network.load_state_dict(ends.network.state_dict())
    assert all(len(one.units) >= 50 for one in later.go_on([PROMPTS[0]] * 8, seeds=range(8), max_units=60))


def test_a_continuation_that_ends_at_once_is_whole_numbers_too() -> None:
    model = unit_lm(min_units=0, temperature=0.0)
    with torch.no_grad():
        model.network.output.weight.zero_()  # BOS, the first of equals, is taken
    (found,) = model.go_on([PROMPTS[0]], seeds=[0])
    assert not len(found.units) and found.units.dtype == torch.int64 and not found.was_cut


def test_scores_are_float32_whatever_the_precision_says() -> None:
    assert unit_lm(generation_precision="bf16").score(PROMPTS) == unit_lm().score(PROMPTS)


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda m: m.score([torch.zeros(0, dtype=torch.int64)]), "one or more"),
        (lambda m: m.score([torch.tensor([0, 40])]), r"\[0, 40\)"),
        (lambda m: m.generate([PROMPTS[0]], seeds=[]), "seeds"),
        (lambda m: m.generate([PROMPTS[0]], seeds=[1], top_p=1.1), "top_p"),
        (lambda m: m.generate([PROMPTS[0]], seeds=[1], max_units=0), "max_units"),
        (lambda m: m.logits(torch.tensor([[41]])), r"\[0, 40\]"),
    ],
)
def test_what_cannot_be_is_named(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call(unit_lm())


def test_other_sizes_and_broken_tensors_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"num_layers is 3 in the recipe, 2 in the file"):
        unit_lm(num_layers=3)
    content = torch.load(REFERENCE / "unit_lm.pt", weights_only=True)
    del content["model_args"]["dim"]
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt.*dim"):
        read_unit_lm(tmp_path / "other.pt")
    torch.save({"x": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="model_state_dict"):
        read_unit_lm(tmp_path / "other.pt")


def task(**more: object) -> UnitLanguage:
    sizes = {key: value for key, value in lm_settings().items() if key != "max_units"}
    network = UnitNetwork(dropout=0.0, **sizes)
    return UnitLanguage(network=network, optimizer=torch.optim.SGD, **more)


def loaded() -> UnitLanguage:
    """A task with the weights of the released file, as --init gives it."""
    from utils.checkpoint import find_tensors

    made = task(provenance={"units": {"lmbda": 3.0}})
    made.adopt_settings({}, REFERENCE / "unit_lm.pt")
    tensors = made.adopt(find_tensors(torch.load(REFERENCE / "unit_lm.pt", weights_only=True)))
    prefix = "network."
    made.network.load_state_dict({n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)})
    return made.eval()


@torch.no_grad()
def test_validation_is_minus_the_scores_over_the_units_whatever_the_batches() -> None:
    data = UnitUtterances(units=REFERENCE / "units", num_clusters=DIMS["num_clusters"], chunk_size=1024)
    made, scores = loaded(), unit_lm().score(PROMPTS)
    for size in (1, 3, 4):
        batches = [list(range(4))[start : start + size] for start in range(0, 4, size)]
        found = [made.evaluate(data.collate([data[i] for i in batch])) for batch in batches]
        nats, count = (sum(float(metrics["loss"][part]) for metrics in found) for part in (0, 1))
        np.testing.assert_allclose(nats, -sum(scores), rtol=1e-5)
        assert count == sum(map(len, PROMPTS))
        seconds = sum(metrics["loss_per_second"][1] for metrics in found) / 50
        np.testing.assert_allclose(seconds, 4.94)


def test_a_gradient_does_not_follow_from_how_a_step_is_cut() -> None:
    data = UnitUtterances(units=REFERENCE / "units", num_clusters=DIMS["num_clusters"], chunk_size=1024)
    gradients = []
    for parts in ([[0, 1, 2, 3]], [[0], [1, 2, 3]]):
        made = loaded()
        objectives = [
            next(made.objectives(data.collate([data[i] for i in part]), {"network": made.network})) for part in parts
        ]
        loss = sum(o.loss for o in objectives) / sum(int(o.count) for o in objectives)
        gradients.append(torch.autograd.grad(loss, made.network.norm.weight)[0])
    torch.testing.assert_close(*gradients)


def test_what_is_exported_is_read_again(tmp_path: Path) -> None:
    made = loaded()
    (path,) = made.export(tmp_path)
    found: LanguageFile = read_unit_lm(path)
    assert path.name == "unit_lm.pt" and found.sizes == made.sizes
    content = torch.load(path, weights_only=True)
    released = torch.load(REFERENCE / "unit_lm.pt", weights_only=True)
    assert content["model_args"].keys() == released["model_args"].keys()
    assert all(torch.equal(x, content["model_state_dict"][n]) for n, x in released["model_state_dict"].items())


def test_an_initial_file_of_other_sizes_is_refused(tmp_path: Path) -> None:
    sizes = {**loaded().sizes, "num_clusters": 39}
    tensors = UnitNetwork(**sizes).state_dict()
    path = write_unit_lm(tmp_path, sizes, tensors, dropout=0.1)
    with pytest.raises(ValueError, match="num_clusters is 40 in the recipe, 39 in the file"):
        task().adopt_settings({}, path)


@pytest.mark.slow
def test_the_mistral_folder_gives_the_same_logits_in_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from models.wavlm import quiet_transformers

    write_mistral(REFERENCE / "unit_lm.pt", tmp_path)
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, local_files_only=True)
    with torch.no_grad():
        found = model(expected()["lm/ids"][None]).logits[0]
    torch.testing.assert_close(found, expected()["lm/logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_heads": 3}, "num_heads"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"num_layers": 10**9}, "num_layers is 1000000000, its tensors are of 2"),
        ({"d_ffn": -1}, "d_ffn is -1"),
        ({"num_clusters": 10**9}, "by its sizes it should be"),
    ],
)
def test_sizes_that_are_not_those_of_the_tensors_are_refused_before_a_network_is_made(changed, said: str) -> None:
    file = read_unit_lm(REFERENCE / "unit_lm.pt")
    with pytest.raises(ValueError, match=said):
        LanguageFile(path="some.pt", sizes={**file.sizes, **changed}, tensors=file.tensors)
