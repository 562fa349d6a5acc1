"""Metrics that compare two signals, without weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import numpy as np

from evaluation.metric import SAMPLE_RATE, Column, Metric, Score, Signals, Unscorable, require_packages, version

PESQ_LIMIT = 30.0  # seconds


class SISDR(Metric):
    """Scale-invariant signal-to-distortion ratio (Le Roux et al., arXiv 1811.02508)."""

    name = "si_sdr"

    def __init__(self):
        require_packages("torchmetrics")
        self.columns = (
            Column(
                "si_sdr",
                "SI-SDR",
                "scale_invariant_signal_distortion_ratio of the output against the target, zero-mean "
                f"({version('torchmetrics')})",
                unit="dB",
            ),
        )

    def score(self, signals: Signals) -> dict[str, Score]:
        return {"si_sdr": si_sdr(signals.output, signals.target)}


class SISDRImprovement(Metric):
    """How far the SI-SDR of the output is above that of the mixture."""

    name = "si_sdri"
    needs = ("target", "mixture")

    def __init__(self):
        require_packages("torchmetrics")
        self.columns = (
            Column(
                "si_sdri",
                "SI-SDR improvement",
                "SI-SDR of the output less that of the mixture, both against the target, zero-mean "
                f"({version('torchmetrics')})",
                unit="dB",
            ),
        )

    def score(self, signals: Signals) -> dict[str, Score]:
        return {"si_sdri": si_sdr(signals.output, signals.target) - si_sdr(signals.mixture, signals.target)}


class PESQ(Metric):
    """Perceptual evaluation of speech quality, wide band (ITU-T P.862.2)."""

    name = "pesq"

    def __init__(self):
        require_packages("pesq")
        self.columns = (
            Column("pesq", "PESQ (wb)", f"wide-band PESQ at 16 kHz against the target ({version('pesq')})"),
        )

    def score(self, signals: Signals) -> dict[str, Score]:
        from pesq import PesqError, pesq

        seconds = len(signals.output) / SAMPLE_RATE
        if seconds > PESQ_LIMIT:  # the library has room for 50 utterances, and beyond it the process dies
            raise Unscorable(f"{seconds:.0f} s: beyond {PESQ_LIMIT:.0f} s the PESQ library can crash")
        try:
            return {"pesq": float(pesq(SAMPLE_RATE, signals.target, signals.output, "wb"))}
        except PesqError as error:
            reason = error.args[0] if error.args else error
            raise Unscorable(reason.decode() if isinstance(reason, bytes) else str(reason)) from error


class STOI(Metric):
    """Short-time objective intelligibility (Taal et al., 2011)."""

    name, extended = "stoi", False
    title, what = "STOI", "STOI at 16 kHz against the target"

    def __init__(self):
        require_packages("pystoi")
        self.columns = (Column(self.name, self.title, f"{self.what} ({version('pystoi')})"),)

    def score(self, signals: Signals) -> dict[str, Score]:
        from pystoi import stoi

        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # with too little speech it warns, and answers 1e-5
            try:
                return {self.name: float(stoi(signals.target, signals.output, SAMPLE_RATE, extended=self.extended))}
            except RuntimeWarning as warning:
                raise Unscorable(str(warning)) from warning


class ESTOI(STOI):
    """Extended STOI (Jensen and Taal, 2016)."""

    name, extended = "estoi", True
    title, what = "ESTOI", "extended STOI at 16 kHz against the target"


class MelDistance(Metric):
    """How far the spectra are apart in mel bands, as HiFi-GAN's training measures it (arXiv 2010.05646)."""

    name = "mel"

    def __init__(self):
        self.columns = (
            Column(
                "mel",
                "Mel distance",
                "mean absolute difference of log-mel spectrograms of output and target, at their own levels (80 Slaney "
                "bands up to 8 kHz, window 1024, hop 256, Hann, magnitudes floored at 1e-5, natural logarithm)",
                "lower",
            ),
        )

    def score(self, signals: Signals) -> dict[str, Score]:
        import torch

        pair = (torch.from_numpy(np.asarray(wav, np.float32))[None] for wav in (signals.output, signals.target))
        return {"mel": float(_mel_distance()(*pair))}


class CorrectTalker(Metric):
    """Whether the output is nearer to the target than to the interferer, by two distances."""

    name = "talker"
    needs = ("target", "interferer")

    def __init__(self):
        require_packages("torchmetrics")
        where = "share of the files whose output is nearer to the target than to the interferer (s2.scp, else mixture "
        where += "less target), by "
        self.columns = (
            Column(
                "correct_talker_mel",
                "Correct talker (log-mel)",
                where + "the mean absolute difference of 80-band log-mel spectrograms (torchaudio, window 400, "
                "hop 160, Hann, power, 1e-5 added, natural logarithm) of the signals at unit RMS",
                unit="%",
            ),
            Column("correct_talker_si_sdr", "Correct talker (SI-SDR)", where + "SI-SDR, zero-mean", unit="%"),
        )

    def score(self, signals: Signals) -> dict[str, Score]:
        if not signals.interferer.any():
            raise Unscorable("there is nobody but the target in the mixture")
        output, target, other = (log_mel(wav) for wav in (signals.output, signals.target, signals.interferer))
        by_mel = np.abs(output - target).mean() < np.abs(output - other).mean()
        by_ratio = si_sdr(signals.output, signals.target) > si_sdr(signals.output, signals.interferer)
        return {"correct_talker_mel": 100.0 * by_mel, "correct_talker_si_sdr": 100.0 * by_ratio}


def si_sdr(output: np.ndarray, target: np.ndarray) -> float:
    """In dB."""
    import torch
    from torchmetrics.functional.audio.sdr import scale_invariant_signal_distortion_ratio

    # In double precision: with single, the last digits follow from the order of a sum.
    signals = (torch.from_numpy(np.asarray(wav, dtype=np.float64)) for wav in (output, target))
    return float(scale_invariant_signal_distortion_ratio(*signals, zero_mean=True))


def log_mel(wav: np.ndarray) -> np.ndarray:
    """[T] at 16 kHz -> [80, frames], of the signal at unit RMS."""
    import torch

    wav = torch.from_numpy(wav / np.sqrt(np.mean(np.square(wav, dtype=np.float64)))).float()
    return (_mel_spectrogram()(wav) + 1e-5).log().numpy()


@cache
def _mel_distance() -> Callable:
    from modules import mel

    return mel.MelDistance()


@cache
def _mel_spectrogram() -> Callable:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(sample_rate=SAMPLE_RATE, n_fft=400, hop_length=160, n_mels=80)
