"""What all metrics with pretrained models have in common."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from huggingface_hub import constants

from evaluation.metric import Signals, Unavailable, Unscorable
from evaluation.nisqa import NISQA
from evaluation.speech_models import DifferentialWER, SpeakerSimilarity, SpeechBERTScore
from tests.speech_models import BOTH, loaded, tone
from tests.toy import ROOT


def test_a_file_too_short_for_a_model_is_unscorable(ssl, xvector) -> None:
    speechbert, similarity = (
        loaded(SpeechBERTScore(source=str(ssl), layer=3)),
        loaded(SpeakerSimilarity(source=str(xvector))),
    )
    for metric, least in ((speechbert, 400), (similarity, 5200)):
        (value,) = metric.score(Signals(tone(0, least), target=tone(1, least))).values()
        assert np.isfinite(value)
        with pytest.raises(Unscorable, match=f"{least - 1} samples, the model needs {least}$"):
            metric.score(Signals(tone(0, least - 1), target=tone(1, least)))


def every(ssl, xvector, whisper, nisqa_tar):
    return [
        SpeechBERTScore(source=str(ssl), layer=2),
        SpeakerSimilarity(source=str(xvector)),
        DifferentialWER(source=str(whisper)),
        NISQA(source=str(nisqa_tar)),
    ]


def test_a_signal_equals_itself(ssl, xvector, whisper, nisqa_tar) -> None:
    wav = tone(3)
    scores = {}
    for metric in every(ssl, xvector, whisper, nisqa_tar)[:3]:
        scores |= loaded(metric).score(Signals(wav, target=wav.copy()))
    words = scores.pop("dwer_normalized")
    assert scores == pytest.approx({"speechbert": 1.0, "similarity": 1.0, "dwer": 0.0}, abs=1e-6)
    assert words[0] == 0 and words[1] > 0


@pytest.mark.slow
def test_scores_are_plain_numbers_and_the_signals_are_not_written_to(ssl, xvector, whisper, nisqa_tar) -> None:
    output, target = tone(0), tone(1)
    for wav in (output, target):
        wav.flags.writeable = False
    for metric in map(loaded, every(ssl, xvector, whisper, nisqa_tar)):
        score = metric.score(Signals(output, target=target))
        assert list(score) == [column.name for column in metric.columns]
        numbers = [n for value in score.values() for n in (value if isinstance(value, tuple) else (value,))]
        assert all(type(number) in (int, float) for number in numbers)
        assert metric.score(Signals(output, target=target)) == score


def test_loading_and_scoring_are_quiet(ssl, xvector, whisper, nisqa_tar, capfd) -> None:
    for metric in map(loaded, every(ssl, xvector, whisper, nisqa_tar)):
        metric.score(BOTH)
    loaded(DifferentialWER(source=str(whisper))).transcribe(tone(0, 40000))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [SpeechBERTScore, SpeakerSimilarity, DifferentialWER])
def test_a_model_that_is_not_there_is_unavailable(kind, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Unavailable, match=f"not found at {tmp_path}/nowhere: .* with --model$"):
        kind(source=f"{tmp_path}/nowhere", flag="--model")
    with pytest.raises(Unavailable, match=f"^[a-z]+/[a-z0-9-]+ is neither a folder.*{tmp_path}/cache.*offline"):
        kind()
    with pytest.raises(Unavailable, match=f"not found at {tmp_path}: there is no config.json"):
        kind(source=str(tmp_path))


@pytest.mark.slow
def test_the_process_that_makes_metrics_stays_small(ssl, xvector, whisper, nisqa_tar) -> None:
    code = f"""
import pickle, sys
from evaluation.nisqa import NISQA
from evaluation.speech_models import DifferentialWER, SpeakerSimilarity, SpeechBERTScore
metrics = [SpeechBERTScore(source={str(ssl)!r}, layer=2), SpeakerSimilarity(source={str(xvector)!r}),
           DifferentialWER(source={str(whisper)!r}), NISQA(source={str(nisqa_tar)!r})]
assert len(pickle.dumps(metrics)) < 20000
heavy = {{"torch", "transformers", "torchmetrics", "jiwer", "librosa", "scipy"}} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
