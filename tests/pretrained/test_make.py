"""The toy system's making: what it runs, and that it goes on where it was stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models import load_extractor
from pretrained import making
from pretrained.toy import make as toy
from tests.processes import descendants, is_alive, wait_for
from tests.toy import ROOT, call, in_this_process, settings, write_corpus


def test_the_interferer_is_enrolled_with_another_file_in_which_it_is_the_target() -> None:
    names = ["1-1-0_2-1-0.wav", "2-1-0_3-1-0.wav", "3-1-0_9-1-0.wav", "2-1-1_1-1-0.wav"]
    found = toy.enrolments_of_interferers({name: Path(f"aux/{name}") for name in names})
    assert names[2] not in found  # nobody has an enrolment of speaker 9
    assert found[names[1]] == Path(f"aux/{names[2]}") and found[names[3]] == Path(f"aux/{names[0]}")
    assert found[names[0]].name.startswith("2-")


def test_a_stage_is_done_once_and_its_time_is_kept(tmp_path) -> None:
    made = toy.Toy(tmp_path, hours=1, gpus="cpu", changes=[])
    done = []

    def fail() -> None:
        done.append("tried")
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        made.once("stage", fail)
    before = json.loads((tmp_path / "stages.json").read_text())["stage"]
    assert not before["done"]
    made.once("stage", lambda: done.append("worked"))
    made.once("stage", lambda: done.append("again"))
    after = json.loads((tmp_path / "stages.json").read_text())["stage"]
    assert done == ["tried", "worked"] and after["done"] and after["seconds"] >= before["seconds"]


def test_an_unknown_stage_is_named(tmp_path) -> None:
    done = call("pretrained/toy/make.py", "--output", tmp_path, "--until", "encodr")
    assert done.returncode == 2 and "encodr" in done.stderr and "encoder" in done.stderr
    assert not list(tmp_path.iterdir())


SMALL = {
    "mel_units": ["tr_utterances=20", "batch_size=8"],
    "kmeans": ["tr_utterances=20", "batch_size=8"],
    "encoder": [
        "encoder={hidden_size: 16, num_attention_heads: 2, intermediate_size: 32, conv_dim: [8, 8, 8, 8, 8, 8, 8], "
        "num_conv_pos_embeddings: 8, num_conv_pos_embedding_groups: 2}",
        "epoch=1",
        "steps=2",
    ],
    "unit_hifigan": ["epoch=1", "steps=2", "embedding_dim=8", "attn_dim=8", "upsample_initial_channel=32"],
    "tselm": ["epoch=1", "epoch_num=4", "batch_size=2", "embedding_dim=16", "fusion_layers=1", "fusion_ffn=16"]
    + ["d_model=16", "num_layers=1", "lm_ffn=16"],
}
SMALL["tselm_awake"] = SMALL["tselm"]


@pytest.mark.slow
def test_every_recipe_trains_and_all_is_packed_at_a_small_size(tmp_path, monkeypatch) -> None:
    """From their real files, by the one command. What follows, the measurements, is tested part by part."""
    for module in (toy, making):
        monkeypatch.setattr(module, "run", in_this_process)
    changes = [text for recipe, keys in SMALL.items() for key in keys for text in ("--override", f"{recipe}:{key}")]
    size = ("--hours", "0.01", "--gpus", "cpu", "--until", "pack")
    done = call("pretrained/toy/make.py", "--output", tmp_path, *size, *changes)
    assert done.returncode == 0, done.stderr
    stages = json.loads((tmp_path / "stages.json").read_text())
    assert list(stages)[-1] == "pack" and all(stage["done"] for stage in stages.values())
    made = {str(path.relative_to(tmp_path / "release")) for path in (tmp_path / "release").rglob("*.*")}
    parts = {"wavlm/model.safetensors", "wavlm/config.json", "kmeans/kmeans.safetensors", "tselm.pth"}
    assert made == parts | {"vocoder/hyperparams.yaml", "vocoder/generator.ckpt"}
    extractor = load_extractor(
        ROOT / "config/toy/tselm.yaml",
        tmp_path / "release/tselm.pth",
        overrides=[f"{key}={tmp_path}/release/{part}" for key, part in toy.PARTS.items()] + SMALL["tselm"][3:],
    )
    assert extractor.extract(torch.randn(16000), torch.randn(32000)).shape == (16000,)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process is told of its parent's end by Linux alone")
def test_killing_the_toys_making_does_not_leave_the_training_alive(tmp_path) -> None:
    """Nor the processes that the training itself has started, and the training saves."""
    layers = "[1, 3, 7, 12, 18, 23]"
    small = [
        *settings(),
        f"ssl_layers={layers}",
        f"vocoder_layers={layers}",
        "mix_length=8080",
        "regi_length=8080",
        "num_workers=0",
    ]
    changes = [f"tselm:{text}" for text in (*small, "epoch=100000", "epoch_num=8", "batch_size=4", "batch_size_eval=2")]
    lists = {key: str(path) for key, path in write_corpus(tmp_path).items()}
    code = (
        "from pathlib import Path; from pretrained.toy.make import Toy\n"
        f"Toy(Path({str(tmp_path)!r}), hours=1, gpus='[cpu, cpu]', changes={changes}).train('tselm', **{lists})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
    last, below = tmp_path / "tselm/ckpt/last.pth", []
    try:
        wait_for(lambda: last.exists() or process.poll() is not None, seconds=300)
        below = descendants(process.pid)
        assert len(below) >= 3  # the training, and its two processes
        process.kill()
        process.wait(120)
        wait_for(lambda: not any(map(is_alive, below)), seconds=120)
    finally:
        for pid in {*below, *descendants(process.pid), process.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert "stopped and saved" in (tmp_path / "tselm/log/train.log").read_text()
