"""K-means from its recipe: over processes and restarts."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from models.released import read_kmeans
from tests.kmeans import LAYERS
from tests.toy import REFERENCE, ROOT, call, run, stop_after_first_save, write_corpus
from utils.recipe import Recipe


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> dict[str, Path]:
    paths = write_corpus(tmp_path_factory.mktemp("corpus"))
    return {"tr_data_scp_path": paths["tr_data_scp_path"], "cv_data_scp_path": paths["cv_clean_path"]}


def command(folder: Path, corpus: dict[str, Path], *arguments: object, **more: object) -> list[str]:
    """The real recipe at toy size: 4 steps of 2 crops in an epoch."""
    small = dict(gpus="cpu", num_workers=0, log_interval=1, save_interval="null", epoch=2, **corpus)
    small |= dict(wavlm_path=REFERENCE / "wavlm", crop_length=8080, batch_size=2, batch_size_eval=2, accumulate=1)
    small |= dict(num_clusters=20, reservoir_frames=100, reservoir_batches=3, patience=2)
    where = ["--config_path", "config/kmeans.yaml", "--log", folder / "log", "--ckpt_path", folder / "ckpt"]
    flags = [part for key, value in {**small, **more}.items() for part in ("--override", f"{key}={value}")]
    return ["train.py", *map(str, [*where, *flags, *arguments])]


def saved(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / f"ckpt/{name}.pth", weights_only=True)["model"]


def lines(folder: Path, kind: str) -> list[dict]:
    text = (folder / "log/metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, text) if line["kind"] == kind]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = call(*command(folder, corpus, "--export", folder / "out", num_workers=1))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_recipe_fits_codebooks_that_a_tokenizer_reads(whole) -> None:
    best = saved(whole, "best")["codebooks.centres"]
    for found, centres in zip(read_kmeans(whole / "out", LAYERS), best, strict=True):
        assert torch.equal(found, centres)
    tokenizer = Recipe(
        ROOT / "config/tselm_l.yaml",
        overrides=[f"kmeans_path={whole / 'out'}", f"wavlm_path={REFERENCE / 'wavlm'}", "num_clusters=20"],
    ).build("tokenizer")["tokenizer"]
    tokens = tokenizer.encode(torch.randn(1, 8080))
    assert tokens.shape == (1, 25, 6) and int(tokens.max()) < 20


def test_the_log_tells_inertia_usage_and_perplexity(whole) -> None:
    names = {f"{what}{layer}" for what in ("inertia", "usage", "perplexity") for layer in ("", "_layer_1", "_layer_23")}
    first, (start,), valid = lines(whole, "train"), lines(whole, "first evaluation"), lines(whole, "valid")
    assert len(first) == 8 and len(valid) == 2
    assert all(names <= line.keys() for line in [*first, start, *valid])
    assert "reseeded" in first[0] and 0 < first[0]["usage"] <= 100 and 1 < first[0]["perplexity"] <= 20
    assert valid[-1]["inertia"] < start["inertia"]
    layers = [valid[0][f"inertia_layer_{layer}"] for layer in LAYERS]
    assert valid[0]["inertia"] == pytest.approx(sum(layers) / 6)


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, corpus, whole) -> None:
    """And centres without frames were moved after the break."""
    arguments = command(tmp_path, corpus, num_workers=1, save_interval=1)
    stopped = stop_after_first_save(*arguments, checkpoint=tmp_path / "ckpt/last.pth")
    assert stopped.returncode == -signal.SIGKILL
    state = torch.load(tmp_path / "ckpt/last.pth", weights_only=True)["state"]["progress"]
    assert 1 <= state["step"] < 8
    moved = saved(tmp_path)["codebooks.reseeded"]
    done = call(*arguments)
    assert done.returncode == 0 and "continuing from" in done.stdout + done.stderr, done.stderr
    for name in ("last", "best"):
        a, b = saved(whole, name), saved(tmp_path, name)
        assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    assert saved(whole)["codebooks.reseeded"] > moved


@pytest.mark.parametrize("how", [pytest.param("processes", marks=pytest.mark.slow), "micro-batches"])
def test_two_processes_or_micro_batches_equal_one(tmp_path, corpus, whole, how: str) -> None:
    if how == "processes":
        done = run(*command(tmp_path, corpus, gpus="[cpu, cpu]"))
    else:
        done = call(*command(tmp_path, corpus, accumulate=2))
    assert done.returncode == 0, done.stderr
    a, b = saved(whole), saved(tmp_path)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-5)
    for one, two in zip(lines(whole, "valid"), lines(tmp_path, "valid"), strict=True):
        assert one["inertia"] == pytest.approx(two["inertia"], rel=1e-5)
        assert one["perplexity"] == pytest.approx(two["perplexity"], rel=1e-5)


def test_a_finished_run_exports_in_the_released_layout(tmp_path, corpus) -> None:
    """Also in another precision of the encoder, and of some of the data."""
    few = dict(epoch=1, precision="bf16", tr_utterances=4, cv_utterances=2, ssl_layers="[3,7]", reservoir_frames=60)
    assert call(*command(tmp_path, corpus, **few)).returncode == 0
    out = tmp_path / "out"
    done = call(*command(tmp_path, corpus, "--export", out, export_format="released", export_name="toy", **few))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["toy_k20_L3.pt", "toy_k20_L7.pt"]
    for found, centres in zip(read_kmeans(out, [3, 7]), saved(tmp_path, "best")["codebooks.centres"], strict=True):
        assert torch.equal(found, centres)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(reservoir_frames=10), "reservoir_frames must be at least num_clusters, got 10 and 20"),
        (dict(num_clusters=200, reservoir_frames=200), "num_clusters is 200, but the first 3 batches"),
        (dict(patience=0), "patience above 0, got 0.99 and 0"),
        (dict(export_dtype="float8"), "got 'safetensors' and 'float8'"),
    ],
)
def test_mistakes_are_one_line_that_names_them(tmp_path, corpus, change: dict, message: str) -> None:
    done = call(*command(tmp_path, corpus, **change))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert message in done.stderr.splitlines()[-1]


def test_paths_that_are_not_set_are_all_named(tmp_path) -> None:
    done = call("train.py", "--config_path", "config/kmeans.yaml", "--log", tmp_path, "--ckpt_path", tmp_path)
    assert done.returncode == 2
    assert all(key in done.stderr for key in ("tr_data_scp_path", "cv_data_scp_path", "wavlm_path"))
