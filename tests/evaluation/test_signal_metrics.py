"""Each metric is its library, called directly, on signals of known content."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluation.metric import Signals, Unavailable, Unscorable, require_packages
from evaluation.signal_metrics import (
    ESTOI,
    PESQ,
    SISDR,
    STOI,
    CorrectTalker,
    MelDistance,
    SISDRImprovement,
    log_mel,
    si_sdr,
)
from tests.toy import UTTERANCES, read

for package in ("torchmetrics", "pesq", "pystoi", "speechmos", "onnxruntime", "librosa"):
    pytest.importorskip(package, reason="requirements-eval.txt is not installed")
CASES = ("identical", "scaled", "delayed", "noisy")


def made(case: str, target: np.ndarray) -> np.ndarray:
    """An output of known content."""
    noise = np.random.default_rng(0).standard_normal(len(target)).astype(np.float32)
    return {
        "identical": target,
        "scaled": 0.5 * target,
        "delayed": np.pad(target, (160, 0))[: len(target)],
        "noisy": target + 0.02 * noise,
    }[case]


@pytest.fixture(scope="module", params=UTTERANCES[:2])
def pair(request) -> tuple[np.ndarray, np.ndarray]:
    return read("s1", request.param)[0].numpy(), read("mix_clean", request.param)[0].numpy()


@pytest.mark.parametrize("case", CASES)
def test_pesq_and_stoi_are_their_packages(pair, case: str) -> None:
    from pesq import pesq
    from pystoi import stoi

    target, mixture = pair
    output = made(case, target)
    signals = Signals(output=output, target=target, mixture=mixture)
    assert PESQ().score(signals)["pesq"] == pytest.approx(pesq(16000, target, output, "wb"), abs=1e-6)
    assert STOI().score(signals)["stoi"] == pytest.approx(stoi(target, output, 16000), abs=1e-6)
    assert ESTOI().score(signals)["estoi"] == pytest.approx(stoi(target, output, 16000, extended=True), abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_si_sdr_is_that_of_torchmetrics_with_zero_mean(pair, case: str) -> None:
    from torchmetrics.audio import ScaleInvariantSignalDistortionRatio

    def direct(output: np.ndarray, target: np.ndarray) -> float:
        metric = ScaleInvariantSignalDistortionRatio(zero_mean=True).set_dtype(torch.float64)
        return metric(torch.from_numpy(output).double(), torch.from_numpy(target).double()).item()

    target, mixture = pair
    output = made(case, target) + np.float32(0.01)  # an offset, which zero-mean takes away
    signals = Signals(output=output, target=target, mixture=mixture)
    assert SISDR().score(signals)["si_sdr"] == pytest.approx(direct(output, target), abs=1e-6)
    improvement = direct(output, target) - direct(mixture, target)
    assert SISDRImprovement().score(signals)["si_sdri"] == pytest.approx(improvement, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", ("noisy", "identical"))
def test_dnsmos_is_that_of_speechmos(pair, case: str) -> None:
    from speechmos import dnsmos

    from evaluation.dnsmos import DNSMOS

    output = made(case, pair[0])
    metric = DNSMOS()
    metric.load("cpu")
    found, direct = metric.score(Signals(output=output)), dnsmos.run(output, 16000)
    for ours, theirs in (("sig", "sig_mos"), ("bak", "bak_mos"), ("ovrl", "ovrl_mos"), ("p808", "p808_mos")):
        assert found[f"dnsmos_{ours}"] == pytest.approx(float(direct[theirs]), abs=1e-6)
    assert set(found) == {column.name for column in metric.columns}


def test_known_answers(pair) -> None:
    target, mixture = pair
    assert si_sdr(0.3 * target, target) > 100  # the scale does not matter
    orthogonal = np.random.default_rng(0).standard_normal(len(target))
    orthogonal -= orthogonal.mean()
    centred = target.astype(np.float64) - target.mean(dtype=np.float64)
    orthogonal -= centred * (orthogonal @ centred) / (centred @ centred)
    orthogonal *= np.sqrt((centred @ centred) / (orthogonal @ orthogonal)) / 10
    assert si_sdr(target + orthogonal, target) == pytest.approx(20, abs=1e-6)
    assert SISDRImprovement().score(Signals(mixture, target, mixture))["si_sdri"] == 0
    assert STOI().score(Signals(target, target))["stoi"] == pytest.approx(1, abs=1e-6)


def test_the_correct_talker_is_the_nearer_one(pair) -> None:
    target, mixture = pair
    other = mixture - target
    right = CorrectTalker().score(Signals(0.1 * target + 0.01 * other, target, mixture, other))
    assert right == {"correct_talker_mel": 100, "correct_talker_si_sdr": 100}
    wrong = CorrectTalker().score(Signals(0.1 * other + 0.01 * target, target, mixture, other))
    assert wrong == {"correct_talker_mel": 0, "correct_talker_si_sdr": 0}
    with pytest.raises(Unscorable, match="nobody but the target"):
        CorrectTalker().score(Signals(target, target, target, np.zeros_like(target)))


def test_the_distance_of_log_mels_knows_no_level(pair) -> None:
    target, _ = pair
    np.testing.assert_allclose(log_mel(0.01 * target), log_mel(target), atol=1e-3)
    assert log_mel(target).shape == (80, len(target) // 160 + 1)


def test_what_cannot_be_scored_is_no_score() -> None:
    """pystoi answers 1e-5 for a signal that is too short, beside a warning."""
    short = 0.1 * np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    with pytest.raises(Unscorable, match="Not enough STFT frames"):
        STOI().score(Signals(short, short))
    with pytest.raises(Unscorable, match="1/4 of a second"):
        PESQ().score(Signals(short, short))
    long = np.tile(short, 241)
    with pytest.raises(Unscorable, match="30 s"):  # with many pauses, the library's process dies
        PESQ().score(Signals(long, long))


def test_a_missing_package_is_named_with_the_way_out() -> None:
    with pytest.raises(Unavailable, match="nonesuch is not installed: pip install -r requirements-eval.txt"):
        require_packages("numpy", "nonesuch")


def test_the_mel_distance_is_nothing_of_a_signal_to_itself_and_ln_2_of_one_twice_as_loud(pair) -> None:
    target, mixture = pair
    assert MelDistance().score(Signals(output=target, target=target))["mel"] == 0.0
    louder = MelDistance().score(Signals(output=2 * target, target=target))["mel"]
    assert 0.5 < louder <= np.log(2) + 1e-5  # but for magnitudes at the floor
    assert MelDistance().score(Signals(output=mixture, target=target))["mel"] > 0.1
