"""The toy codec's recipe from the command line: trained from nothing, continued, and used."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.codec import REFERENCE
from tests.toy import call, run, stop_after_first_save, write_corpus
from utils.commands import overrides

RECIPE = "config/toy/speechtokenizer.yaml"
SMALL = {
    "teacher_path": REFERENCE / "teacher",
    "semantic_dimension": 12,
    "n_filters": 4,
    "dimension": 16,
    "codebook_size": 16,
    "n_q": 3,
    "discriminator_width": 0.03125,
    "discriminator_periods": "[2]",
    "stft_sizes": "[256]",
    "stft_filters": 4,
    "segment_length": 6400,
    "valid_length": 16000,
    "batch_size": 4,
    "batch_size_eval": 4,
    "epoch": 2,
    "steps": 4,
    "log_interval": 1,
    "save_interval": 1,
    "num_workers": 0,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))["tr_data_scp_path"]


def command(folder: Path, corpus: Path, *more: object, **keys: object) -> list[object]:
    keys = {**SMALL, "train_path": corpus, "valid_path": corpus, **keys}
    where = ["--config_path", RECIPE, "--log", folder / "log", "--ckpt_path", folder / "ckpt"]
    return ["train.py", *where, "--export", folder / "export", *more, *overrides(keys)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "ckpt/last.pth", weights_only=True)["model"]


def lines(folder: Path, kind: str) -> list[dict]:
    found = [json.loads(line) for line in (folder / "log/metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def tokens(folder: Path, corpus: Path, checkpoint: Path) -> dict[str, np.ndarray]:
    keys = {key: SMALL[key] for key in ("n_filters", "dimension", "semantic_dimension", "codebook_size", "n_q")}
    where = ("-config", RECIPE, "-ckpt", checkpoint, "--output", folder, "-gpus", "cpu", "-proc", "1")
    done = call("inference.py", "--tokenize", corpus, *where, *overrides(keys))
    assert done.returncode == 0, done.stderr
    return {path.name: np.load(path) for path in folder.rglob("*.npy")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    done = call(*command(folder, corpus))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_it_trains_and_what_it_exports_is_what_it_trained(tmp_path, corpus, whole) -> None:
    rows = lines(whole, "train")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    names = {"loss", "l1", "mel", "commitment", "distill", "cosine", "adversarial", "features", "loss_discriminator"}
    assert all(np.isfinite(row[name]) for row in rows for name in names)
    assert {"usage_rvq_1", "perplexity_rvq_3"} <= rows[-1].keys()
    assert {"mel", "l1", "distill", "usage_rvq_1"} <= lines(whole, "valid")[-1].keys()
    best, export = (tmp_path / "best", tmp_path / "export")
    ours, theirs = (
        tokens(folder, corpus, path)
        for folder, path in ((best, whole / "ckpt/best.pth"), (export, whole / "export/SpeechTokenizer.pt"))
    )
    assert len(ours) == 9 and all(np.array_equal(x, theirs[name]) for name, x in ours.items())


@pytest.mark.slow
def test_the_decoder_alone_leaves_every_token(tmp_path, corpus, whole) -> None:
    done = call(
        *command(tmp_path, corpus, "--init", whole / "ckpt/last.pth", decoder_only=True, init_discriminator=True)
    )
    assert done.returncode == 0 and "starting from the weights of codec, discriminator" in done.stderr, done.stderr
    before, after = weights(whole), weights(tmp_path)
    moved = {name for name in before if name.startswith("codec.") and not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith("codec.decoder.") for name in moved)
    ours, theirs = (
        tokens(tmp_path / "a", corpus, whole / "ckpt/last.pth"),
        tokens(tmp_path / "b", corpus, tmp_path / "ckpt/last.pth"),
    )
    assert all(np.array_equal(x, theirs[name]) for name, x in ours.items())


@pytest.mark.slow
def test_fresh_discriminators_beside_a_trained_codec_are_told_of(tmp_path, corpus, whole) -> None:
    done = call(*command(tmp_path, corpus, "--init", whole / "export/SpeechTokenizer.pt", epoch=1))
    assert done.returncode == 0, done.stderr
    said = done.stderr
    assert "starting from the weights of codec in" in said and "discriminator: not in it" in said
    assert "discriminator_start" in said


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"teacher_path": "null"}, ["teacher_path", "train_features"]),
        ({"semantic_dimension": 15}, ["semantic_dimension is 15", "has 12 channels"]),
        ({"sample_rate": 24000}, ["75 a second", "50 a second"]),
        ({"teacher_layer": 7}, ["teacher_layer must be avg, or 0 to 3", "got 7"]),
        ({"decoder_only": True}, ["decoder_only", "--init"]),
        ({"segment_length": 1000}, ["multiple of 320", "1000"]),
        ({"mel_hops": "[240]"}, ["mel_weights, mel_sizes and mel_hops", "[240]"]),
        ({"adversarial": "wgan"}, ["adversarial must be one of lsgan, hinge"]),
        ({"distill_type": "x_axis"}, ["distill_type must be one of d_axis, t_axis"]),
    ],
)
@pytest.mark.slow
def test_mistakes_end_before_the_first_step(tmp_path, corpus, keys: dict, words: list[str]) -> None:
    done = call(*command(tmp_path, corpus, **keys))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert all(word in done.stderr.splitlines()[-1] for word in words), done.stderr
    assert not (tmp_path / "ckpt/last.pth").exists()


@pytest.mark.slow
def test_killed_and_continued_it_ends_with_the_same_weights(tmp_path, corpus, whole) -> None:
    arguments = command(tmp_path, corpus)
    stopped = stop_after_first_save(*arguments, checkpoint=tmp_path / "ckpt/last.pth")
    assert stopped.returncode == -signal.SIGKILL
    done = call(*arguments)
    assert done.returncode == 0 and "continuing from" in done.stderr, done.stderr
    assert all(torch.equal(x, weights(whole)[name]) for name, x in weights(tmp_path).items())


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path, corpus, whole) -> None:
    done = run(*command(tmp_path, corpus, gpus="[cpu, cpu]"))
    assert done.returncode == 0, done.stderr
    for name, x in weights(tmp_path).items():
        torch.testing.assert_close(x, weights(whole)[name], rtol=1e-2, atol=1e-3, msg=name)


@pytest.mark.slow
def test_two_processes_train_where_parts_take_none(tmp_path, corpus) -> None:
    """The transform without a teacher, discriminators before their start; and one process has nothing to validate."""
    one = tmp_path / "one.scp"
    one.write_text(f"a {REFERENCE / 'test/utt0.wav'}\n")
    keys = dict(
        distill_weight=0, teacher_path="null", discriminator_start=2, valid_path=one, gpus="[cpu, cpu]", epoch=1
    )
    done = run(*command(tmp_path, corpus, **keys))
    assert done.returncode == 0, done.stderr
    assert "adversarial" not in lines(tmp_path, "train")[0]
