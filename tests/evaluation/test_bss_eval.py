"""SDR as BSS Eval v3 defines it: against the plain projection, and a library."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.bss_eval import SDR, TAPS, SDRImprovement, sdr
from evaluation.metric import Signals, Unscorable
from tests.toy import read

RNG = np.random.default_rng(0)
TARGET = np.convolve(RNG.standard_normal(1500), [1, 0.8, -0.3, 0.2])
NOISE = RNG.standard_normal(len(TARGET))
CASES = {
    "noisy": TARGET + 0.1 * NOISE,
    "quiet": 1e-3 * (TARGET + 0.3 * NOISE),
    "delayed": np.pad(TARGET, (40, 0))[: len(TARGET)] + 0.05 * NOISE,
    "delayed beyond the filter": np.pad(TARGET, (TAPS + 10, 0))[: len(TARGET)],
    "filtered": np.convolve(TARGET, [0.5, 0.3, 0, -0.7])[: len(TARGET)] + 0.01 * NOISE,
    "offset": TARGET + 1.0,
    "another": NOISE,
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_projection_onto_late_copies_of_the_target(case: str) -> None:
    output = np.pad(CASES[case], (0, TAPS - 1))
    copies = np.stack([np.pad(TARGET, (late, TAPS - 1 - late)) for late in range(TAPS)], axis=1)
    explained = copies @ np.linalg.lstsq(copies, output, rcond=None)[0]
    plain = 10 * np.log10(np.square(explained).sum() / np.square(output - explained).sum())
    assert sdr(CASES[case], TARGET) == pytest.approx(plain, abs=1e-6)


@pytest.mark.slow
def test_on_speech_it_is_the_library() -> None:
    pytest.importorskip("torchmetrics", reason="requirements-eval.txt is not installed")
    import torch
    from torchmetrics.functional.audio import signal_distortion_ratio

    target, mixture = (read(kind, "utt1")[0].numpy().astype(np.float64)[:16000] for kind in ("s1", "mix_clean"))
    output = 0.7 * target + 0.3 * mixture
    direct = [float(signal_distortion_ratio(*map(torch.from_numpy, (wav, target)))) for wav in (output, mixture)]
    signals = Signals(output=output, target=target, mixture=mixture)
    assert SDR().score(signals)["sdr"] == pytest.approx(direct[0], abs=1e-6)
    assert SDRImprovement().score(signals)["sdri"] == pytest.approx(direct[0] - direct[1], abs=1e-6)


def test_a_short_filter_of_the_target_is_no_distortion_and_a_level_neither() -> None:
    padded = np.pad(TARGET, (0, TAPS))  # so that nothing of the filter's tail is cut
    filtered = np.convolve(padded, RNG.standard_normal(TAPS))[: len(padded)]
    assert sdr(filtered, padded) > 80
    assert sdr(3 * CASES["noisy"], TARGET) == pytest.approx(sdr(CASES["noisy"], TARGET), abs=1e-9)
    assert 15 < sdr(CASES["noisy"], TARGET) < 25


def test_a_target_of_few_frequencies_is_scored_and_silence_is_not() -> None:
    tone = np.zeros(1000)
    tone[0] = 1.0  # after this one sample the target's copies are exactly apart
    assert sdr(tone + 0.1 * NOISE[:1000], tone) < 10
    sine = np.sin(2 * np.pi * 440 * np.arange(4000) / 16000)
    assert 15 < sdr(sine + 0.05 * RNG.standard_normal(4000), sine) < 40
    for output, target in ((0 * tone, tone), (tone, 0 * tone)):
        with pytest.raises(Unscorable, match="silent"):
            sdr(output, target)
