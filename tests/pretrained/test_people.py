"""The making of the system for people's voices, at a small size: what is joined, measured and told in the card."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from models import load_extractor
from pretrained import making
from pretrained.people import card
from pretrained.people import make as people
from pretrained.toy import make as toy
from tests.pretrained.test_make import SMALL
from tests.toy import ROOT, call, in_this_process

LANGUAGES = "ab bc cd de ef fg gh hi ij jk".split()


def test_two_sources_may_not_have_a_talker_of_the_same_name() -> None:
    assert people.joined([{"1": 2}, {"3": 4}]) == {"1": 2, "3": 4}
    with pytest.raises(ValueError, match="same name: 1$"):
        people.joined([{"1": 2, "3": 5}, {"1": 4}])


def test_what_falls_short_is_told_with_the_distance() -> None:
    def summary(short: float) -> dict:
        values = {
            "correct_talker_mel": {"extracted": 95}, "stoi": {"extracted": 0.7 - short, "ceiling": 0.8},
            "dnsmos_ovrl": {"extracted": 2.5, "mixture": 2.0}, "absent_silenced": {"extracted": 90},
            "silenced": {"extracted": 1},
        }  # fmt: skip
        return {"metrics": {k: {"systems": {n: {"mean": x} for n, x in v.items()}} for k, v in values.items()}}

    rows = card.aims({"natural": summary(0.0), "recordings": summary(0.1)})
    assert rows[0] == ["measure", "natural synthetic voices: aim", "reached", "recordings of people: aim", "reached"]
    assert rows[1][1:] == ["97", "95, short by 2", "90", "95"]
    assert rows[2][2] == "0.875, short by 0.045" and rows[2][4].startswith("0.75, short by 0.1")
    assert [row[2] for row in rows[3:]] == ["0.8", "0.5", "90", "99"]


@pytest.mark.slow
def test_all_is_made_by_the_one_command(tmp_path, monkeypatch) -> None:
    """With espeak-ng's voices in the place of both sources, since theirs are packages of their own."""
    for module in (toy, making, people):
        monkeypatch.setattr(module, "run", in_this_process)
    monkeypatch.setattr(people, "METRICS", ("predicted_tokens", "talker", "dnsmos", "stoi", "presence"))

    def voices(self: people.People) -> None:
        in_this_process(
            "-m", "data.prepare.synthetic", "--output", self.folder / "natural", "--hours", "0.01", "--speakers", "12",
            "--dev", "3", "--test", "4",
        )  # fmt: skip

    def recordings(self: people.People) -> None:
        write_words(self.folder / "words")
        in_this_process(
            "-m", "data.prepare.recordings", "--output", self.folder / "recordings", "--source",
            self.folder / "words", "--dev", "2", "--test", "3",
        )  # fmt: skip

    monkeypatch.setattr(people.People, "make_voices", voices)
    monkeypatch.setattr(people.People, "make_recordings", recordings)
    small = {**SMALL, "tselm": [*SMALL["tselm"], "presence_threshold=0"]}  # of two steps' scores nothing may follow
    changes = [text for recipe, keys in small.items() for key in keys for text in ("--override", f"{recipe}:{key}")]
    done = call("pretrained/people/make.py", "--output", tmp_path, "--gpus", "cpu", *changes)
    assert done.returncode == 0, done.stderr
    release = tmp_path / "release"
    told = (release / "README.md").read_text()
    assert "| absent talker: output 40 dB below the mixture, % of files | 90 |" in told
    assert "test mixtures of recordings of people" in told and "talkers and the files of each" in told
    assert "`config/people/tselm.yaml`" in told and "`config/toy/kmeans.yaml`" in told
    sounds = sorted(path.name for path in (release / "examples").glob("*.flac"))
    assert sounds and all(name.startswith("natural_") for name in sounds)  # the recordings are not ours to pass on
    summary = json.loads((tmp_path / "extracted/recordings/summary.json").read_text())
    assert summary["scored"] == 3 and "absent_silenced" in summary["metrics"]
    overrides = [f"{key}={release / part}" for key, part in toy.PARTS.items()] + SMALL["tselm"][3:]
    extractor = load_extractor(ROOT / "config/people/tselm.yaml", release / "tselm.pth", overrides=overrides)
    assert 0 <= extractor.extract_with_tokens(torch.randn(16000), torch.randn(32000)).presence.score <= 1
    again = call("pretrained/people/make.py", "--output", tmp_path, "--gpus", "cpu", *changes)
    assert again.returncode == 0 and "==" not in again.stdout  # nothing is left to do


def write_words(folder: Path) -> None:
    """Hums, of one person each, in folders named as languages."""
    draw = np.random.default_rng(0)
    for person, language in enumerate(LANGUAGES):
        (folder / language).mkdir(parents=True)
        for number in range(24):
            seconds = np.arange(16000) / 16000
            hum = sum(np.sin(2 * math.pi * (110 + 15 * person) * k * seconds) / k for k in range(1, 6))
            hum *= np.sin(2 * math.pi * draw.uniform(2, 5) * seconds) ** 2
            sf.write(folder / f"{language}/{number}.wav", 0.1 * hum + 0.003 * draw.normal(size=16000), 16000)
