"""How LiMuSE trains: both stages, silent targets, unequal lengths, and going on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import train
from models.limuse.task import Extraction
from models.load import load_model
from tests.limuse import REFERENCE, inputs, network
from utils import checkpoint

SIZES = {
    "num_filters": 16, "context_hidden": 16, "groups": 4, "context_layers": 1, "layers": 2, "audio_repeats": 1,
    "voiceprint_dim": 512, "visual_dim": 256,
}  # fmt: skip
DATA = REFERENCE / "test"


def run(folder: Path, *more: str, recipe: str = "config/limuse.yaml", **values) -> dict[str, torch.Tensor]:
    """Train on the reference's four mixtures; the weights of ``last.pth``."""
    base = {
        **SIZES, "tr_data_path": DATA, "cv_data_path": DATA, "gpus": "cpu", "num_workers": 0, "batch_size": 4,
        "batch_size_eval": 4, "clip_seconds": 0.2, "log_interval": 1, "save_interval": None, "epoch": 1, "epoch_num": 8,
    }  # fmt: skip
    settings = [
        f"{k}={json.dumps(v) if v is None or isinstance(v, bool | list) else v}" for k, v in (base | values).items()
    ]
    command = ["--config_path", recipe, "--log", str(folder / "log"), "--ckpt_path", str(folder / "ckpt"), *more]
    assert train.main([*command, *(part for text in settings for part in ("--override", text))]) == 0
    return checkpoint.load(folder / "ckpt/last.pth")["model"]


def task(**more) -> Extraction:
    return Extraction(network=network(**more), optimizer=torch.optim.Adam)


def batch(*samples: int) -> dict[str, torch.Tensor]:
    """Items of these lengths in one batch, zero-padded."""
    longest, draw = max(samples), torch.Generator().manual_seed(0)
    mixture, target = torch.randn(len(samples), 2, longest, generator=draw), torch.zeros(len(samples), longest)
    visual = torch.randn(len(samples), -(-longest // 640), 256, generator=draw)
    for row, length in enumerate(samples):
        mixture[row, :, length:] = 0
        target[row, :length] = mixture[row, 0, :length] * 0.7 + mixture[row, 1, :length] * 0.1
        visual[row, -(-length // 640) :] = 0
    return {
        "mixture": mixture, "target": target, "length": torch.tensor(samples), "visual": visual,
        "sounding": torch.ones(len(samples), dtype=torch.bool),
        "voiceprint": inputs("utt0")["voiceprint"].expand(len(samples), -1),
    }  # fmt: skip


def rows(given: dict[str, torch.Tensor], *which: int) -> dict[str, torch.Tensor]:
    """A part of a batch, as it would have been alone."""
    part = {key: value[list(which)] for key, value in given.items()}
    longest = int(part["length"].max())
    part["mixture"], part["target"] = part["mixture"][..., :longest], part["target"][:, :longest]
    return {**part, "visual": part["visual"][:, : -(-longest // 640)]}


@pytest.mark.parametrize("more", [{}, {"quantised": True}])
def test_validation_does_not_depend_on_batches(more: dict) -> None:
    made, given = task(**more).eval(), batch(3000, 5000, 3000, 801)
    with torch.no_grad():
        together = made.evaluate(given)
        alone = [made.evaluate(rows(given, row)) for row in range(4)]
        pairs = [made.evaluate(rows(given, *some)) for some in ((0, 2), (1, 3))]
    for name in ("loss", "si_sdr", "si_sdri"):
        assert together[name][1] == 4
        for others in (alone, pairs):
            assert abs(float(together[name][0]) - sum(float(x[name][0]) for x in others)) < 0.01
    assert float(together["loss"][0]) == -float(together["si_sdr"][0])


def test_silent_targets_count_nowhere() -> None:
    made, given = task().eval(), batch(2000, 2000)
    with torch.no_grad():
        wanted = made.evaluate(rows(given, 0))
    given["target"][1] = 0
    given["sounding"][1] = False
    with torch.no_grad():
        found = made.evaluate(given)
    for name in ("loss", "si_sdr", "si_sdri"):
        assert found[name][1] == 1 and abs(float(found[name][0] - wanted[name][0])) < 1e-3
    assert found["silent"] == (torch.tensor(100.0), 2)
    assert "50 %" in made.warnings({"silent": 50.0})[0] and not made.warnings({"silent": 0.0})
    objective = next(made.objectives(given, made.networks()))
    assert int(objective.count) == 1 and abs(float(objective.loss.detach()) - float(wanted["loss"][0])) < 1e-3
    objective.loss.backward()
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)


def test_padding_of_a_clip_counts_not() -> None:
    made, given = task(), batch(2000, 1500)
    loss = next(made.objectives(given, made.networks())).loss
    given["target"][1, 1500:] = 9.0
    assert torch.equal(next(made.objectives(given, made.networks())).loss, loss)


def test_scales_have_no_weight_decay_and_the_encoders_bias_can_stay() -> None:
    made = Extraction(network=network("quantised"), optimizer=torch.optim.Adam, encoder_bias=False)
    optimizer = made.optimizers()["network"]
    weights, scales = optimizer.param_groups
    assert scales["weight_decay"] == 0 and [len(p) for p in scales["params"]] == [160, 160]
    assert len(weights["params"]) == 609  # all but the encoder's bias


def test_an_offset_is_held_down() -> None:
    given = batch(1000)
    plain, held = (Extraction(network=network(), optimizer=torch.optim.Adam, offset_weight=w) for w in (0.0, 10.0))
    held.network.load_state_dict(plain.network.state_dict())
    with torch.no_grad():
        plain.network.decoder.bias.fill_(1.0), held.network.decoder.bias.fill_(1.0)
    (a,), (b,) = (list(t.objectives(given, t.networks())) for t in (plain, held))
    assert float((b.loss - a.loss).detach()) > 1 and torch.equal(a.metrics["loss"][0], b.metrics["loss"][0])


def test_values_that_cannot_be_are_refused() -> None:
    for more, words in (
        ({"temperature": 0}, "temperature"),
        ({"thresholds": "mean"}, "thresholds"),
        ({"offset_weight": -1}, "offset"),
    ):
        with pytest.raises(ValueError, match=words):
            Extraction(network=network(), optimizer=torch.optim.Adam, **more)


@pytest.mark.slow
def test_both_stages(tmp_path) -> None:
    """The second one starts from the weights of the first, with scales that follow from them, and both learn."""
    first = run(tmp_path / "a", lr=0.003)
    init = tmp_path / "a/ckpt/best.pth"
    second = run(
        tmp_path / "b", "--init", str(init), "--export", str(tmp_path / "packed"), lr=0.001,
        recipe="config/limuse_quantised.yaml",
    )  # fmt: skip
    assert first.keys() < second.keys()
    names = list(network("quantised", **{**SIZES}).quantised_layers())
    start = torch.stack([3.75 / first[f"network.{name}"].abs().max() for name in names])
    beta, alpha = second["network.quantiser.beta"], second["network.quantiser.alpha"]
    assert 0 < (beta - start).abs().max() < 0.01 and (alpha - 1 / start).abs().max() > 0
    moved = max(float((second[name] - first[name]).abs().max()) for name in first)
    assert 0 < moved < 2.1e-3  # two steps
    lines = [json.loads(x) for x in (tmp_path / "b/log/metrics.jsonl").read_text().splitlines()]
    begin = next(x for x in lines if x["kind"] == "first evaluation")
    assert begin["loss"] < 30
    sizes = [f"{key}={value}" for key, value in SIZES.items()]
    made = [
        load_model("config/limuse_quantised.yaml", path, overrides=sizes).extract(**inputs("utt1"))
        for path in (tmp_path / "b/ckpt/best.pth", tmp_path / "packed/limuse.safetensors")
    ]
    assert torch.equal(*made)
    for recipe, source, words in (
        ("config/limuse.yaml", tmp_path / "b/ckpt/best.pth", "cannot begin a training in full precision"),
    ):
        with pytest.raises(AssertionError):
            run(tmp_path / "c", "--init", str(source), recipe=recipe)
        assert words in (tmp_path / "c/log/train.log").read_text()


@pytest.mark.slow
def test_the_second_stage_goes_on_where_it_was_stopped(tmp_path) -> None:
    run(tmp_path / "a")
    more = ("--init", str(tmp_path / "a/ckpt/best.pth"))
    settings = {"recipe": "config/limuse_quantised.yaml", "lr_patience": 0, "early_stop": 2, "lr": 0.01}
    whole = run(tmp_path / "b", *more, epoch=3, **settings)
    run(tmp_path / "c", *more, epoch=1, **settings)
    parts = run(tmp_path / "c", *more, epoch=3, **settings)
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    a, b = (checkpoint.load(tmp_path / f"{x}/ckpt/last.pth")["state"] for x in "bc")
    assert a["progress"] == b["progress"] and a["schedule"] == b["schedule"]


@pytest.mark.slow
def test_a_released_checkpoint_begins_a_training(tmp_path) -> None:
    sizes = {"num_filters": 12, "context_hidden": 24, "groups": 6, "layers": 6, "audio_repeats": 2, "context_layers": 2}
    run(tmp_path / "a", "--init", str(REFERENCE / "full/best.pt"), **sizes)
    run(tmp_path / "b", "--init", str(REFERENCE / "quantised/best.pt"), quantised=True, **sizes)
    run(tmp_path / "c", "--init", str(REFERENCE / "full/best.pt"), quantised=True, **sizes)
