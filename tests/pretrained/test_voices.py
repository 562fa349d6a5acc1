"""The making of the toy of speech resynthesis at a tiny size, by the one command; and what it measures."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf

from pretrained import making
from pretrained.resynthesis import make, measure
from pretrained.timbre import timbre
from tests.toy import call, in_this_process

SMALL = {
    "kmeans": ["reservoir_frames=400", "reservoir_batches=2", "num_workers=0", "crop_length=16080", "batch_size=8"],
    "f0_vqvae": ["f0_dim=8", "f0_width=8", "f0_depth=1", "epoch=1", "valid_items=1", "num_workers=0"],
    "resynthesis": [
        "f0_dim=8", "f0_width=8", "f0_depth=1", "epoch=1", "valid_items=1", "num_workers=0", "segment=8960",
        "batch_size=8", "upsample_initial_channel=32", "steps=2",
    ],
}  # fmt: skip


@pytest.mark.slow
def test_all_is_made_by_the_one_command(tmp_path, monkeypatch) -> None:
    for module in (make, making, measure):
        monkeypatch.setattr(module, "run", in_this_process)
    monkeypatch.setattr(measure, "SOURCES", 2)
    monkeypatch.setattr(measure, "METRICS", ("pitch", "stoi"))
    monkeypatch.setattr(make, "FEWER", {"dev": 1, "test": 1})
    monkeypatch.setattr(make, "SPEAKERS", 3)
    monkeypatch.setattr(make, "SHARES", {"valid": 0.1, "test": 0.6})
    changes = [text for recipe, keys in SMALL.items() for key in keys for text in ("--override", f"{recipe}:{key}")]
    command = ("pretrained/resynthesis/make.py", "--output", tmp_path, "--hours", "0.02", "--gpus", "cpu", *changes)
    done = call(*command)
    assert done.returncode == 0, done.stderr
    release = tmp_path / "release"
    card = (release / "README.md").read_text()
    assert "VDE (%)" in card and "362.5 bit/s" in card and "vocoder.pth" in card and "| timbre |" in card
    made = {path.name for path in release.iterdir()}
    assert made >= {"vocoder.pth", "f0_stats.json", "kmeans", "example.png", "contours.svg", "curves", "logs"}
    assert sf.info(release / "examples/converted.flac").samplerate == 16000
    again = call(*command)
    assert again.returncode == 0 and "==" not in again.stdout  # nothing is left to do


def test_one_utterance_of_each_talker_is_chosen_evenly() -> None:
    talkers = {f"{who}-{number}": who for who in "abcdef" for number in (2, 1)}
    assert measure.one_of_each(talkers, 3) == ["a-1", "c-1", "e-1"]
    assert len(measure.one_of_each(talkers, 99)) == 6
    assert measure.one_of_each({**talkers, "g-1": "g"}, 99)[-1] == "f-1"  # of g there is nothing to compare with


def test_a_talker_without_another_recording_makes_no_pair(tmp_path, monkeypatch) -> None:
    """Its reference was the mean of nothing, which is nearer to nobody: a quarter of the pairs counted as failed."""
    files = {name: tmp_path / f"{name}.wav" for name in ("a-1", "a-2", "b-1")}
    for who in "ab":
        for name in ("a-1", "b-1"):
            (tmp_path / f"converted/{who}").mkdir(parents=True, exist_ok=True)
            sf.write(tmp_path / f"converted/{who}/{name}.wav", np.zeros(160), 16000)
    heard = measure.Heard(np.ones(2), 7.0)
    monkeypatch.setattr(measure, "hear_all", lambda paths: [heard] * len(paths))
    talkers = {name: name[0] for name in files}
    found = measure.measure_conversion(tmp_path / "converted", files, talkers, ["a-1", "b-1"])
    assert [(pair["source"], pair["target"]) for pair in found["pairs"]] == [("a", "b")]


def test_what_is_nearer_to_the_target_counts_by_source_talker() -> None:
    near = {"timbre_to_target": 1.0, "timbre_to_source": 2.0, "semitones_to_target": 3.0, "semitones_to_source": 2.0}
    far = {**near, "timbre_to_target": 4.0}
    pairs = [{"source": "a", **near}, {"source": "a", **far}, {"source": "b", **near}, {"source": "b", **near}]
    found = measure.summarise(pairs)
    assert found["timbre_nearer"]["mean"] == 75.0 and found["timbre_nearer"]["count"] == 2
    assert found["semitones_nearer"]["mean"] == 0.0 and found["semitones_to_target"]["mean"] == 3.0


def test_a_timbre_does_not_follow_the_level() -> None:
    wav = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    filtered = np.convolve(wav, [1, 0.9], "same").astype(np.float32)
    own, other = timbre(wav), timbre(filtered)
    np.testing.assert_allclose(timbre(0.1 * wav), own, atol=0.5)
    assert np.linalg.norm(other - own) > 10
