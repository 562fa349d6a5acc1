"""The toy encoder's recipe from the command line: units of mel spectra, then masked prediction of them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from models.wavlm import WavLM
from tests.toy import call, stop_after_first_save, write_corpus
from utils.commands import overrides

SMALL = {
    "encoder": "{hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32, "
    "conv_dim: [8, 8, 8, 8, 8, 8, 8], num_conv_pos_embeddings: 8, num_conv_pos_embedding_groups: 2}",
    "num_units": 8,
    "crop_length": 16080,
    "batch_size": 4,
    "batch_size_eval": 4,
    "epoch": 2,
    "steps": 4,
    "log_interval": 1,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))["tr_data_scp_path"]


@pytest.fixture(scope="module")
def units(tmp_path_factory, corpus) -> Path:
    folder = tmp_path_factory.mktemp("units")
    keys = dict(tr_data_scp_path=corpus, cv_data_scp_path=corpus, tr_utterances="null", num_clusters=8, batch_size=3)
    keys |= dict(batch_size_eval=3, crop_length=32080, reservoir_frames=400, reservoir_batches=2)
    where = ("--config_path", "config/toy/mel_units.yaml", "--log", folder / "log", "--ckpt_path", folder / "ckpt")
    done = call("train.py", *where, "--export", folder / "units", *overrides(keys))
    assert done.returncode == 0, done.stderr
    return folder / "units"


def command(folder: Path, corpus: Path, units: Path, **more: object) -> list[str]:
    keys = {**SMALL, "train_path": corpus, "valid_path": corpus, "units_path": units, **more}
    where = ["--config_path", "config/toy/encoder.yaml", "--log", folder / "log", "--ckpt_path", folder / "ckpt"]
    return [*map(str, where), "--export", str(folder / "wavlm"), *overrides(keys)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "ckpt/last.pth", weights_only=True)["model"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus, units) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    done = call("train.py", *command(folder, corpus, units))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_it_trains_and_writes_an_encoder_that_is_read_as_any(whole) -> None:
    lines = [json.loads(line) for line in (whole / "log/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4]
    assert all({"loss", "error", "heard_error"} <= line.keys() for line in lines)
    encoder = WavLM(whole / "wavlm", layers=[1, 2])
    assert encoder.dim == 16 and encoder(torch.randn(1, 16000))[1].shape == (1, 49, 16)


@pytest.mark.slow
def test_killed_and_continued_it_ends_with_the_same_weights(tmp_path, corpus, units, whole) -> None:
    arguments = command(tmp_path, corpus, units, save_interval=1)
    stopped = stop_after_first_save("train.py", *arguments, checkpoint=tmp_path / "ckpt/last.pth")
    assert stopped.returncode == -signal.SIGKILL
    done = call("train.py", *arguments)
    assert done.returncode == 0 and "continuing from" in done.stderr, done.stderr
    assert all(torch.equal(x, weights(whole)[name]) for name, x in weights(tmp_path).items())
