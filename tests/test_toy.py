"""The toy system's making: what it runs, and that it goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import toy
from models import load_extractor
from tests.toy import ROOT, run


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
    done = run("toy.py", "--output", tmp_path, "--until", "encodr")
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


def test_every_recipe_trains_and_all_is_packed_at_a_small_size(tmp_path) -> None:
    """From their real files, by the one command. What follows, the measurements, is tested part by part."""
    changes = [text for recipe, keys in SMALL.items() for key in keys for text in ("--override", f"{recipe}:{key}")]
    done = run(
        "toy.py", "--output", tmp_path, "--hours", "0.01", "--gpus", "cpu", "--until", "pack", *changes, timeout=900
    )
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
