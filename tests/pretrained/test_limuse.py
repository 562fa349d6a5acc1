"""The making of the toy of LiMuSE at a tiny size, by the one command; its speaker encoder; and what is measured."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import soundfile as sf
import torch

from models.limuse.speaker_encoders import XVector
from models.limuse.windows import Windows
from pretrained import making
from pretrained.limuse import make, measure, voiceprints
from tests.toy import ROOT, call, in_this_process

SMALL = ["epoch=1", "epoch_num=8", "batch_size=4", "num_workers=0", "clip_seconds=0.5", "voiceprint_dim=4"]


@pytest.mark.slow
def test_all_is_made_by_the_one_command(tmp_path, monkeypatch) -> None:
    for module in (make, making, measure):
        monkeypatch.setattr(module, "run", in_this_process)
    monkeypatch.setattr(make, "TALKERS", 6)
    monkeypatch.setattr(make, "DEV_TEST", {"dev": 2, "test": 4})
    monkeypatch.setattr(measure, "LONG", 2)
    monkeypatch.setattr(measure, "LONG_SECONDS", 13)
    changes = [text for recipe in ("limuse", "limuse_quantised") for key in SMALL for text in
               ("--override", f"{recipe}:{key}")]  # fmt: skip
    command = ("pretrained/limuse/make.py", "--output", tmp_path, "--hours", "0.05", "--gpus", "cpu", *changes)
    done = call(*command)
    assert done.returncode == 0, done.stderr
    release = tmp_path / "release"
    card = (release / "README.md").read_text()
    assert "| the other talker's voiceprint, no face |" in card and "| seams |" in card and "limuse_packed" in card
    made = {path.name for path in release.iterdir()}
    assert made >= {"limuse.pth", "limuse_packed.safetensors", "speaker_encoder", "example.png"}
    found = json.loads((tmp_path / "test/results.json").read_text())
    assert found["packed_difference"] == 0 and set(found["rows"]) >= {"3.5 cm", "14 cm", "channels swapped"}
    assert sf.info(release / "examples/extracted.flac").samplerate == 16000
    again = call(*command)
    assert again.returncode == 0 and "==" not in again.stdout  # nothing is left to do


@pytest.fixture(scope="module")
def talkers(tmp_path_factory) -> dict[str, list]:
    """Four that hum at heights of their own, three times each."""
    folder, draw, found = tmp_path_factory.mktemp("hum"), np.random.default_rng(0), {}
    for talker in range(4):
        for number in range(3):
            seconds = np.arange(16000) / 16000
            hum = sum(np.sin(2 * math.pi * (150 + 90 * talker) * k * seconds) / k for k in (1, 2, 3, 4))
            path = folder / f"{talker}-{number}.wav"
            sf.write(path, 0.1 * hum + 0.003 * draw.normal(size=16000), 16000)
            found.setdefault(f"t{talker}", []).append(path)
    return found


@pytest.mark.slow
def test_a_discriminant_is_a_speaker_encoder(tmp_path, talkers) -> None:
    wavlm = ROOT / "pretrained/toy/wavlm"
    voiceprints.make_encoder(tmp_path / "encoder", wavlm, talkers, dim=3)
    encoder = XVector(tmp_path / "encoder")
    assert encoder.dim == 3 and voiceprints.tell_apart(tmp_path / "encoder", talkers) == 100
    wav = torch.from_numpy(sf.read(talkers["t0"][0], dtype="float32")[0])
    assert torch.allclose(encoder.embed(wav[None]), encoder.embed(0.1 * wav[None]), atol=0.05)  # whatever its level


def case(azimuth: float = 0.3, other: float = -2.0) -> measure.Case:
    draw = np.random.default_rng(1)
    row = {"name": "a", "target_azimuth": azimuth, "target_distance": 2.0, "interferer_azimuth": other}
    row |= {"interferer_distance": 2.0, "target_speaker": "x", "interferer_speaker": "y"}
    target = draw.normal(size=4000).astype(np.float32)
    at_both = measure.free_field(target, measure.Place(azimuth, 2.0), spacing=measure.SPACING)
    others = measure.free_field(draw.normal(size=4000), measure.Place(other, 2.0), spacing=measure.SPACING)
    return measure.Case((at_both + others).astype(np.float32), target, np.ones(4), np.ones((7, 2)), row)


def test_changes_do_what_they_say() -> None:
    one, wrong = case(), {"a": np.full(4, 7.0)}
    made = {name: change(one) for name, change in measure.changes(wrong).items()}
    assert not made["no face"].face.any() and made["no face"].voiceprint.any()
    assert not made["neither"].voiceprint.any() and made["wrong voiceprint, face"].voiceprint[0] == 7
    assert not made["second microphone silent"].mixture[1].any()
    quiet = made["30 dB quieter"]
    assert 20 * math.log10(np.abs(one.mixture).max() / np.abs(quiet.mixture).max()) == pytest.approx(30, abs=1e-3)
    swapped = made["channels swapped"]
    np.testing.assert_array_equal(swapped.mixture, one.mixture[::-1])
    wanted = measure.free_field(one.target, measure.Place(0.3, 2.0), spacing=measure.SPACING)[1]
    np.testing.assert_allclose(swapped.target, wanted, atol=1e-5)
    assert measure.gain(swapped.target, swapped.mixture[0], swapped.target) > 40  # it is what channel 0 now has


def test_talkers_on_one_cone_are_alike() -> None:
    assert measure.separation(case(0.7, -0.7).row) == pytest.approx(0, abs=1e-9)
    assert measure.separation(case(0.0, math.pi).row) == pytest.approx(2 * 0.07 / 343 * 16000, rel=1e-6)


def test_seams_lie_in_the_middle_of_what_two_windows_share() -> None:
    plan = Windows(piece_seconds=12.0, overlap_seconds=1.0, sample_rate=16000)
    found, windows = measure.stretches(plan, 36 * 16000), plan.cut(36 * 16000)
    seams = [part for _, kind, part in found if kind == "seams"]
    assert len(seams) == len(windows) - 1 and all(part.stop - part.start == 6400 for part in seams)
    for part, before, after in zip(seams, windows, windows[1:], strict=False):
        middle = (part.start + part.stop) // 2
        assert after.start < middle < before.start + before.length
