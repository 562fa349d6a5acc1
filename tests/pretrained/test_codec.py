"""The toy codec's making at a tiny size, by the one command; and what its probe measures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile as sf

from pretrained import making, probe
from pretrained.speechtokenizer import make
from pretrained.speechtokenizer.card import verdict
from tests.codec import REFERENCE
from tests.toy import ROOT, call, in_this_process

SMALL = [
    f"teacher_path={REFERENCE / 'teacher'}",
    "semantic_dimension=12",
    "n_filters=4",
    "dimension=16",
    "codebook_size=16",
    "n_q=4",
    "segment_length=6400",
    "valid_items=2",
    "epoch=1",
    "steps=2",
    "num_workers=0",
]


@pytest.mark.slow
def test_all_is_made_by_the_one_command(tmp_path, monkeypatch) -> None:
    for module in (make, making):
        monkeypatch.setattr(module, "run", in_this_process)
    monkeypatch.setattr(make, "PROBE", {"talkers": 4, "utterances": 3})
    changes = [text for key in SMALL for text in ("--override", f"speechtokenizer:{key}")]
    command = ("pretrained/speechtokenizer/make.py", "--output", tmp_path, "--hours", "0.01", "--gpus", "cpu", *changes)
    done = call(*command)
    assert done.returncode == 0, done.stderr
    release = tmp_path / "release"
    card = (release / "README.md").read_text()
    assert "| 4 | 800 |" in card and "this codec" in card and "SpeechTokenizer.pt" in card
    assert {path.name for path in release.iterdir()} >= {"config.json", "SpeechTokenizer.pt", "example.png", "curves"}
    assert sf.info(release / "examples/4.flac").samplerate == 16000
    log = [json.loads(line) for line in (tmp_path / "compared/plain/log/metrics.jsonl").read_text().splitlines()]
    assert "distill" not in log[-1]
    again = call(*command)
    assert again.returncode == 0 and "==" not in again.stdout  # nothing is left to do


def test_a_probe_tells_content_from_talker() -> None:
    rng = np.random.default_rng(0)
    labels, content, talker = {}, {}, {}
    for t in range(4):
        for u in range(6):
            kinds = rng.integers(5, size=40)
            name = f"{t}-{u}"
            labels[name] = {"talker": str(t), "phonemes": [(n / 50, f"'{k}a") for n, k in enumerate(kinds)]}
            content[name], talker[name] = kinds, np.full(40, t)
    said, who = (probe.measure(tokens, labels, frame_rate=50.0) for tokens in (content, talker))
    assert said["phonemes"] > 99 and said["information"] > 99 and said["talkers"] < 60
    assert who["talkers"] == 100 and who["phonemes"] < 40 and who["information"] < 10


def test_frames_have_the_phoneme_at_their_middle() -> None:
    found = probe.frame_phonemes([(0.02, "'I"), (0.05, "s"), (0.07, "_:")], 5, 50.0)
    assert list(found) == ["pause", "I", "s", "pause", "pause"]


def test_the_verdict_says_what_was_found() -> None:
    rows = [
        {"codec": name, "codebook": 1, "phonemes": phonemes, "talkers": talkers}
        for name, phonemes, talkers in (("distilled", 50.0, 30.0), ("plain", 40.0, 60.0))
    ]
    assert "10.0 points more of the phonemes and 30.0 points fewer" in verdict(rows)
    rows[0]["talkers"] = 70.0
    assert "not the split" in verdict(rows)


def test_the_recipe_and_the_makefile_name_the_command() -> None:
    assert "pretrained.speechtokenizer.make" in (ROOT / "Makefile").read_text()
