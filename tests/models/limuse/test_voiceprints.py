"""Voiceprints of a folder of lists, made once, and what a training then keeps of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from data.scp import read_scp
from models.limuse.speaker_encoders import load_speaker_encoder, origin_of
from tests.limuse import RECIPE, REFERENCE, flags
from tests.toy import call
from utils.recipe import Recipe

ENCODER = {"speaker_encoder": "xvector", "speaker_encoder_path": REFERENCE / "xvector", "voiceprint_dim": 48}


def make(folder: Path, output: Path, **more: object):
    keys = flags(**{**ENCODER, **more})
    where = ("--output", output, "-config", RECIPE, "-gpus", "cpu", "-proc", "1")
    return call("models/limuse/voiceprints", folder, *where, *keys)


@pytest.fixture
def lists(tmp_path) -> Path:
    """Three rows, the last of which has a silent enrolment; the second one's is stereo."""
    folder, draw = tmp_path / "lists", np.random.default_rng(0)
    folder.mkdir()
    wavs = {"mix_clean": draw.normal(size=(3, 8000, 2)), "s1": draw.normal(size=(3, 8000))}
    enrolments = [draw.normal(size=9000), draw.normal(size=(9000, 2)), np.zeros(9000)]
    for kind, signals in {**wavs, "aux_s1": enrolments}.items():
        for number, wav in enumerate(signals):
            sf.write(folder / f"{kind}_{number}.wav", 0.1 * wav, 16000, subtype="FLOAT")
        lines = [f"row{number}.wav {kind}_{number}.wav\n" for number in range(3)]
        (folder / f"{kind}.scp").write_text("".join(lines))
    return folder


def test_they_are_the_encoders_and_the_lists_name_them(lists, tmp_path) -> None:
    done = make(lists, tmp_path / "made")
    assert done.returncode == 1 and "row2.wav" in done.stderr + done.stdout  # it is silent
    assert "2 of 3 rows" in done.stdout
    found = {kind: read_scp(tmp_path / f"made/{kind}.scp") for kind in ("mix_clean", "s1", "aux_s1")}
    assert all(list(entries) == ["row0.wav", "row1.wav"] for entries in found.values())
    assert not (tmp_path / "made/visual_s1.scp").exists()
    encoder = load_speaker_encoder("xvector", REFERENCE / "xvector", 48, ["voiceprint"])
    for name, file in (("row0.wav", "aux_s1_0.wav"), ("row1.wav", "aux_s1_1.wav")):
        wav = sf.read(lists / file, dtype="float32", always_2d=True)[0][:, 0]
        wanted = encoder.embed(torch.from_numpy(wav)[None])[0].numpy()
        np.testing.assert_allclose(np.load(found["aux_s1"][name]), wanted, atol=1e-5)
    record = json.loads((tmp_path / "made/voiceprints/voiceprints.json").read_text())
    assert origin_of(encoder) in json.dumps(record)


def test_a_training_takes_the_new_lists_and_keeps_whose_they_are(lists, tmp_path) -> None:
    make(lists, tmp_path / "made")
    keys = {**ENCODER, "cues": "[voiceprint]", "tr_data_path": tmp_path / "made", "cv_data_path": tmp_path / "made"}
    keys["batch_size"] = 2
    built = Recipe(RECIPE, overrides=[f"{key}={value}" for key, value in keys.items()]).build("train_data", "task")
    assert len(built["train_data"].dataset) == 2
    assert built["train_data"].dataset[0]["voiceprint"].shape == (48,)
    assert built["task"].voiceprints.startswith("xvector ")


def test_what_cannot_be_made_is_told(lists, tmp_path) -> None:
    for output, more, why in (
        (lists, {}, "is the folder of lists itself"),
        (
            tmp_path / "a",
            {"speaker_encoder": "files", "speaker_encoder_path": "null"},
            "speaker_encoder_path must be set",
        ),
        (tmp_path / "a", {"voiceprint_dim": 8}, "48 numbers, voiceprint_dim is 8"),
    ):
        done = make(lists, output, **more)
        assert done.returncode == 2 and why in done.stderr, done.stderr
    assert make(tmp_path / "nowhere", tmp_path / "a").returncode == 2
    assert sorted(path.name for path in lists.glob("*.scp")) == ["aux_s1.scp", "mix_clean.scp", "s1.scp"]
