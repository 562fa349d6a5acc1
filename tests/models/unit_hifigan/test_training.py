"""The unit HiFi-GAN from its recipe: over processes and restarts."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from speechbrain.lobes.models.HifiGAN import (
    ResBlock1,
)

from models.released import read_vocoder
from models.unit_hifigan.vocoder import load_vocoder
from tests.toy import StopAfter, call, run, stop_after_first_save, write_corpus
from tests.unit_hifigan import CPU, RECIPE, TOY
from utils.checkpoint import flatten
from utils.progress import StopRequest
from utils.recipe import Recipe
from utils.seed import seed_everything


def test_the_recipe_is_the_published_one() -> None:
    built = Recipe(RECIPE).build("task", "trainer")
    task, trainer = built["task"], built["trainer"]
    sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in task.networks().items()}
    assert sizes == {"generator": 22_745_858, "discriminator": 70_724_591}
    assert len(task.generator.state_dict()) == 295 and task.hop_length == 320
    assert task.generator.unit_embedding.num_embeddings == 6001
    assert all(isinstance(block, ResBlock1) for block in task.generator.resblocks)
    assert (task.mel_weight, task.adversarial_weight, task.feature_weight) == (45, 1, 10) and task.layer_dropout
    for optimizer in task.optimizers().values():
        (group,) = optimizer.param_groups
        assert isinstance(optimizer, torch.optim.AdamW) and (group["lr"], group["betas"]) == (2e-4, (0.8, 0.99))
    assert trainer.epochs == 150 and trainer.best_metric == "mel"
    trainer.schedule.end_epoch(0.0)
    assert trainer.schedule.scale(0) == 0.9999


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """The recipe's paths, the tokens made by the program that makes them."""
    folder = tmp_path_factory.mktemp("data")
    corpus = write_corpus(folder, seconds=1.3)
    paths = {"train_path": corpus["tr_data_scp_path"], "valid_path": corpus["cv_clean_path"]}
    paths |= {"train_tokens": folder / "train_tokens", "valid_tokens": folder / "valid_tokens"}
    for part in ("train", "valid"):
        done = call(
            "inference.py", "--tokenize", paths[f"{part}_path"], "-config", RECIPE,
            "--output", paths[f"{part}_tokens"], "-gpus", "cpu", "-proc", "1", *flags(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return paths


def overrides(**more: object) -> list[str]:
    return [f"{key}={value}" for key, value in {**TOY, **more}.items()]


def flags(**more: object) -> list[str]:
    return [part for text in overrides(**more) for part in ("--override", text)]


def command(folder: Path, **more: object) -> list[object]:
    where = ["--config_path", RECIPE, "--log", folder / "log", "--ckpt_path", folder / "ckpt"]
    return ["train.py", *where, *flags(**more)]


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / f"ckpt/{name}.pth", weights_only=True)["model"]


@pytest.mark.slow
def test_the_real_recipe_trains_at_toy_size_and_exports_a_vocoder(tmp_path, data) -> None:
    done = call(*command(tmp_path, **data, precision="bf16", accumulate=2), "--export", tmp_path / "vocoder")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "log/metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["kind"] == "train"]
    assert len(train) == 4
    assert {"loss", "loss_discriminator", "mel", "adversarial", "features", "grad_norm_generator"} <= train[0].keys()
    assert all({"mel", "stoi"} <= line.keys() for line in lines if line["kind"] == "valid")
    best = {n.removeprefix("generator."): x for n, x in weights(tmp_path, "best").items() if n.startswith("generator.")}
    _, exported = read_vocoder(tmp_path / "vocoder")
    assert best.keys() == exported.keys() and all(torch.equal(best[name], exported[name]) for name in best)
    layers = [1, 3, 7, 12, 18, 23]
    vocoder = load_vocoder(tmp_path / "vocoder", vocab_size=50, trained_layers=layers, layers=layers)
    assert vocoder.decode(torch.zeros(1, 10, 6, dtype=torch.int64)).shape == (1, 3200)


def fit(folder: Path, data: dict[str, Path], *, stop: StopRequest | None = None, **more: object) -> bool:
    torch.manual_seed(3)
    built = Recipe(RECIPE, overrides=overrides(**data, **more)).build("task", "train_data", "valid_data", "trainer")
    return built["trainer"].fit(
        built["task"], built["train_data"], built["valid_data"],
        device=CPU, log_path=folder / "log", ckpt_path=folder / "ckpt", stop=stop,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, data) -> None:
    """Bit for bit: both networks, the scale discriminator's spectral norm, and both optimizers."""
    assert fit(tmp_path / "whole", data)
    for stop_after in (1, 3):  # each in the middle of an epoch of two steps
        assert not fit(tmp_path / str(stop_after), data, stop=StopAfter(stop_after))
        assert fit(tmp_path / str(stop_after), data)
        states = [torch.load(tmp_path / n / "ckpt/last.pth", weights_only=True) for n in ("whole", str(stop_after))]
        a, b = (state["model"] for state in states)
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
        assert any(name.endswith("weight_u") for name in a)
        for name in ("optimizer.generator", "optimizer.discriminator"):
            a, b = (state["state"][name]["state"] for state in states)
            assert all(torch.equal(a[i][m], b[i][m]) for i in a for m in ("exp_avg", "exp_avg_sq", "step"))


@pytest.mark.slow
def test_killed_and_continued_it_ends_with_the_same_weights(tmp_path, data) -> None:
    """From the command line, by a signal that nothing can catch."""
    assert call(*command(tmp_path / "whole", **data)).returncode == 0
    arguments = command(tmp_path / "killed", **data, save_interval=1)
    stopped = stop_after_first_save(*arguments, checkpoint=tmp_path / "killed/ckpt/last.pth")
    assert stopped.returncode == -signal.SIGKILL
    done = call(*arguments)
    assert done.returncode == 0 and "continuing from" in done.stderr, done.stderr
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, data) -> None:
    """To a hundredth of the way that the weights have gone.

    With all layers, since each process drops others; and with steps in proportion to the gradient, where Adam's equal
    steps would make much of the last bits of a small one.
    """
    settings = dict(**data, layer_dropout=False, epoch=1, lr=0.0003, optimizer="{eps: 1.0}")
    start = initial_weights(data)
    one = call(*command(tmp_path / "one", **settings))
    assert one.returncode == 0, one.stderr
    two = run(*command(tmp_path / "two", **{**settings, "gpus": "[cpu, cpu]"}))
    assert two.returncode == 0, two.stderr
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert a.keys() == b.keys() == start.keys()
    for network in ("generator", "discriminator"):  # less the spectral norm's vectors, which go far by themselves
        names = [name for name in a if name.startswith(network) and not name.endswith(("weight_u", "weight_v"))]
        moved = max(float((a[name] - start[name]).abs().max()) for name in names)
        apart = max(float((a[name] - b[name]).abs().max()) for name in names)
        assert apart < 0.01 * moved, (network, apart, moved)


def initial_weights(data: dict[str, Path]) -> dict[str, torch.Tensor]:
    """Those that train.py makes."""
    recipe = Recipe(RECIPE, overrides=overrides(**data))
    seed_everything(recipe.build("seed")["seed"])
    networks = recipe.build("task", "train_data", "valid_data", "trainer")["task"].networks()
    return flatten({name: network.state_dict() for name, network in networks.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(num_clusters=40), "vocab_size 50 there, 40 in the recipe"),
        (dict(ssl_layers="[1, 3]"), "codebooks ['layer_1', 'layer_3', 'layer_7', 'layer_12', 'layer_18', 'layer_23']"),
        (dict(train_tokens="/nowhere/tokens"), "no tokens in /nowhere/tokens: there is no tokens.json; make them once"),
        (dict(frames=5), "the generator needs 6 frames or more, got 5"),
        (dict(valid_frames=600), "has 600 frames"),
        (dict(discriminator_width=2), "at most 1, got 2"),
        (dict(discriminator_scales=7), "7 scales"),
        (dict(export_format="onnx"), "export_format must be one of released, safetensors, got 'onnx'"),
        (dict(export_dtype="int8"), "export_dtype must be one of float32, float16, got 'int8'"),
        (dict(mel_sizes="[]"), "one size of FFT or more, got none"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_one_line_that_names_them(tmp_path, data, change: dict, message: str) -> None:
    done = call(*command(tmp_path, **{**data, **change}))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and message in last, last


def test_paths_that_are_not_set_are_all_named(tmp_path) -> None:
    done = call("train.py", "--config_path", RECIPE, "--log", tmp_path, "--ckpt_path", tmp_path)
    assert done.returncode == 2
    assert all(key in done.stderr for key in ("train_path", "train_tokens", "valid_path", "valid_tokens"))
    assert "wavlm_path" not in done.stderr  # no tokenizer in training
