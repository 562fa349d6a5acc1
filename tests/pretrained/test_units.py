"""The making of the toy of DP-SLM at a tiny size, by the one command; and what it measures."""

from __future__ import annotations

import csv
import json
import random

import numpy as np
import pytest
import soundfile as sf

from pretrained import making
from pretrained.dpslm import make, measure
from tests.toy import call, in_this_process

SMALL = {
    "codebook": ["reservoir_frames=1000", "reservoir_batches=2", "num_workers=0", "crop_length=16000", "batch_size=8"],
    "dpslm_unit_lm": ["epoch=1", "epoch_num=4", "batch_size=4", "chunk_size=32", "num_workers=0"],
    "dpslm_acoustic": ["epoch=1", "epoch_num=4", "batch_size=4", "num_workers=0"],
}


@pytest.mark.slow
def test_all_is_made_by_the_one_command(tmp_path, monkeypatch) -> None:
    for module in (make, making, measure):
        monkeypatch.setattr(module, "run", in_this_process)
    monkeypatch.setattr(make, "FEWER", {"dev": 1, "test": 2})
    monkeypatch.setattr(make, "SPEAKERS", 2)
    monkeypatch.setattr(make, "CLUSTERS", (100, 50))
    small = {"PROBE": {"talkers": 4, "utterances": 3}, "LMBDAS": (0.0, 400.0), "PAIRS": 4, "SAID": 2, "PIECE": 8}
    for name, value in {**small, "CONTEXT": 3, "BORDER_SECONDS": 0.15}.items():
        monkeypatch.setattr(measure, name, value)
    changes = [text for recipe, keys in SMALL.items() for key in keys for text in ("--override", f"{recipe}:{key}")]
    command = ("pretrained/dpslm/make.py", "--output", tmp_path, "--hours", "0.02", "--gpus", "cpu", *changes)
    done = call(*command)
    assert done.returncode == 0, done.stderr
    release = tmp_path / "release"
    card = (release / "README.md").read_text()
    assert "| 50 | 400 |" in card and "| category: swapped |" in card and "unit_lm.pth" in card and "border" in card
    made = {path.name for path in release.iterdir()}
    assert made >= {"unit_lm.pth", "acoustic.pth", "codebook", "example.png", "bitrates.svg", "curves", "logs"}
    assert sf.info(release / "examples/continued.flac").samplerate == 16000
    again = call(*command)
    assert again.returncode == 0 and "==" not in again.stdout  # nothing is left to do


def test_edits_are_counted_as_the_plain_table_has_them() -> None:
    draw = np.random.default_rng(0)
    for _ in range(30):
        one, other = (draw.integers(0, 4, draw.integers(0, 9)).tolist() for _ in range(2))
        table = [[i + j for j in range(len(other) + 1)] for i in range(len(one) + 1)]
        for i, a in enumerate(one, 1):
            for j, b in enumerate(other, 1):
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a != b))
        assert measure.edits(one, other) == table[-1][-1]


def test_a_wrong_order_has_the_same_words() -> None:
    words = ["the", "fox", "sold", "the", "map"]
    for kind in measure.KINDS:
        wrong = measure.in_wrong_order(words, kind, random.Random(0))
        assert wrong != words and sorted(wrong) == sorted(words)
    swapped = measure.in_wrong_order(words, "swapped", random.Random(1))
    assert sum(a != b for a, b in zip(words, swapped, strict=True)) == 2


@pytest.mark.slow
def test_pairs_are_of_one_voice_and_of_both_kinds(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(measure, "PAIRS", 4)
    measure.write_pairs(tmp_path)
    rows = list(csv.DictReader((tmp_path / "gold.csv").read_text().splitlines()))
    assert [row["correct"] for row in rows] == ["1", "0"] * 4
    assert {row["category"] for row in rows} == set(measure.KINDS)
    assert all(one["voice"] == other["voice"] for one, other in zip(rows[::2], rows[1::2], strict=True))
    assert all((tmp_path / f"{row['filename']}.flac").is_file() for row in rows)


def test_bits_are_those_of_units_without_repeats() -> None:
    found = measure.bits([np.array([0, 0, 1, 1]), np.array([2, 3, 3, 3])])
    assert found == {"units_per_second": 25.0, "bitrate": 50.0}  # four units, all equally often: 2 bits


def test_the_borders_of_pieces_lie_where_the_units_end(tmp_path) -> None:
    wav = np.arange(100, dtype=np.float32)
    sides = measure._sides(wav, 50, sample_rate=20)
    assert len(sides) == 1 and sides[0][0][-1] == 49 and sides[0][1][0] == 50 and len(sides[0][1]) == 30
    assert measure._sides(wav, 20, sample_rate=20) == []
    json.dumps(measure.estimates({"a": [(np.zeros(2), np.ones(2))] * 3}))
