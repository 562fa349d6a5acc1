"""How often silence came, and how well presence scores tell present from absent talkers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from evaluation.metric import Signals, Unavailable, Unscorable
from evaluation.presence import Presence, is_silenced, operating_points
from evaluation.scoring import score_one
from evaluation.signal_metrics import CorrectTalker
from evaluation.summary import markdown

RNG = np.random.default_rng(0)
MIXTURE = RNG.standard_normal(16000).astype(np.float32)


@pytest.fixture
def absent(tmp_path: Path) -> Path:
    """Outputs of three absent talkers: silent, 41 dB below the mixture, and loud."""
    scores = {"a": 0.1, "b": 0.4, "c": 0.8}
    for name, gain in zip(scores, (0.0, 10 ** (-41 / 20), 1.0), strict=True):
        sf.write(tmp_path / f"{name}.wav", gain * MIXTURE, 16000, subtype="FLOAT")
    lines = [{"name": f"{name}.wav", "by": "x", "row": {"score": score}} for name, score in scores.items()]
    (tmp_path / "journal.inference.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def signals(name: str = "a.wav", gain: float = 1.0, presence: float | None = 0.9) -> Signals:
    return Signals(output=gain * MIXTURE, mixture=MIXTURE, name=name, presence=presence)


@pytest.mark.parametrize(("gain_db", "expected"), [(-39.9, False), (-40.1, True), (-np.inf, True), (3, False)])
def test_silence_is_less_than_40_db_below_the_mixture(gain_db: float, expected: bool) -> None:
    assert is_silenced(10 ** (gain_db / 20) * MIXTURE, MIXTURE) is expected


def test_a_system_alone_is_told_its_scores_and_silences(absent) -> None:
    metric = Presence()
    assert metric.score(signals()) == {"presence": 0.9, "silenced": 0.0}
    assert metric.score(signals(gain=0.0, presence=0.2)) == {"presence": 0.2, "silenced": 100.0}
    assert metric.score(signals(presence=None)) == {"presence": None, "silenced": 0.0}


def test_with_absent_talkers_the_mean_over_files_is_the_area_under_the_curve(absent) -> None:
    metric = pickle.loads(pickle.dumps(Presence(absent=absent)))
    present = [0.9, 0.4, 0.05]
    found = [metric.score(signals(f"{name}.wav", presence=p)) for name, p in zip("abc", present, strict=True)]
    assert [row["absent_silenced"] for row in found] == [100.0, 100.0, 0.0]
    pairs = [(p > a) + 0.5 * (p == a) for p in present for a in (0.1, 0.4, 0.8)]
    assert np.mean([row["presence_auc"] for row in found]) == pytest.approx(np.mean(pairs))
    assert [row["presence_auc"] for row in found] == [1.0, 0.5, 0.0]
    with pytest.raises(Unscorable, match="no output: .*d.wav"):
        metric.score(signals("d.wav"))
    with pytest.raises(Unavailable, match="no such folder of outputs: .*nowhere"):
        Presence(absent=absent / "nowhere")


def test_other_outputs_of_absent_talkers_are_another_metric(absent) -> None:
    """So that no score of before is taken for one of now."""
    before = Presence(absent=absent).models
    assert Presence(absent=absent).models == before
    sf.write(absent / "c.wav", 0 * MIXTURE[:100], 16000)
    assert Presence(absent=absent).models != before


def test_silence_has_no_score_by_other_metrics_and_is_no_fault() -> None:
    pytest.importorskip("torchmetrics", reason="requirements-eval.txt is not installed")
    silent = Signals(output=0 * MIXTURE, mixture=MIXTURE, target=MIXTURE, interferer=MIXTURE[::-1].copy(), presence=0.1)
    scores, reason = score_one(CorrectTalker(), silent)
    assert set(scores.values()) == {None} and reason is None
    assert score_one(Presence(), silent)[0]["silenced"] == 100.0


def test_thresholds_to_choose_from() -> None:
    present = [0.2, *np.linspace(0.6, 0.9, 99)]
    absent = [0.1, 0.15, 0.3, 0.95]
    points = operating_points(present, absent)
    assert [round(point["present_silenced"]) for point in points] == [0, 1, 2, 5]
    assert points[0]["absent_found"] == 50 and 0.15 < points[0]["threshold"] < 0.2
    assert points[1]["absent_found"] == 75 and 0.3 < points[1]["threshold"] <= 0.6
    for point in points:  # what is said is what would be
        assert 100 * np.mean(np.array(present) < point["threshold"]) == pytest.approx(point["present_silenced"])
        assert 100 * np.mean(np.array(absent) < point["threshold"]) == pytest.approx(point["absent_found"])
    assert operating_points([], absent) == [] == operating_points(present, [])


def test_the_summary_shows_them() -> None:
    from evaluation.summary import summarise

    points = operating_points([0.9, 0.8], [0.1])
    shown = summarise([], {}, unavailable={}, missing_lists={}, codebooks={}, speed=[], presence_thresholds=points)
    assert "| presence_threshold | present silenced (%) | absent found (%) |" in markdown(shown)
    assert "presence_threshold" not in markdown({**shown, "presence_thresholds": []})
