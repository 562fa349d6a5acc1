"""The signal-to-distortion ratio of BSS Eval, version 3 (Vincent, Gribonval and Fevotte, 2006)."""

from __future__ import annotations

import numpy as np

from evaluation.metric import Column, Metric, Score, Signals, Unscorable

TAPS = 512  # of the filter that the target may have gone through

_WHAT = f"BSS Eval v3: the part of the signal that a filter of {TAPS} taps makes of the target, over the rest"


class SDR(Metric):
    """Signal-to-distortion ratio, where any short filtering of the target counts as target."""

    name = "sdr"

    def __init__(self):
        self.columns = (Column("sdr", "SDR", f"{_WHAT}; of the output", unit="dB"),)

    def score(self, signals: Signals) -> dict[str, Score]:
        return {"sdr": sdr(signals.output, signals.target)}


class SDRImprovement(Metric):
    """How far the SDR of the output is above that of the mixture."""

    name = "sdri"
    needs = ("target", "mixture")

    def __init__(self):
        self.columns = (
            Column("sdri", "SDR improvement", f"{_WHAT}; of the output, less that of the mixture", unit="dB"),
        )

    def score(self, signals: Signals) -> dict[str, Score]:
        return {"sdri": sdr(signals.output, signals.target) - sdr(signals.mixture, signals.target)}


def sdr(output: np.ndarray, target: np.ndarray) -> float:
    """In dB, of two signals [T] that are not silent; means are not subtracted.

    The output, with TAPS - 1 zeros after it, is projected onto the target's copies that are 0 to TAPS - 1 samples
    late. Other sources do not enter: what the target explains is distortion of it, all else is not.

    Raises:
        Unscorable: one of them is silent.
    """
    output, target = (np.asarray(wav, dtype=np.float64) for wav in (output, target))
    if not (output.any() and target.any()):
        raise Unscorable("the output or the target is silent")
    whole = len(target) + TAPS - 1
    size = 1 << (whole - 1).bit_length()
    spectrum = np.fft.rfft(target, size)
    # What copies of the target have in common with one another, by how far they are apart, and with the output.
    common = np.fft.irfft(np.square(np.abs(spectrum)), size)[:TAPS]
    with_output = np.fft.irfft(spectrum.conj() * np.fft.rfft(output, size), size)[:TAPS]
    lags = np.abs(np.arange(TAPS)[:, None] - np.arange(TAPS))
    try:
        taps = np.linalg.solve(common[lags], with_output)
    except np.linalg.LinAlgError:  # a pure tone, say
        taps = np.linalg.lstsq(common[lags], with_output, rcond=None)[0]
    explained = np.fft.irfft(spectrum * np.fft.rfft(taps, size), size)[:whole]
    rest = np.pad(output, (0, TAPS - 1)) - explained
    return float(10 * np.log10(np.square(explained).sum() / np.square(rest).sum()))
