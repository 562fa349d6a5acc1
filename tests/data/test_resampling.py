"""Any rate at a cost that the input bounds, and torchaudio's result at the usual ones."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import soundfile as sf
import torch
import torchaudio.functional as AF

from data import audio, resampling

ODD = [16_001, 44_101, 15_999, 47_999, 8_001, 999_983]


@pytest.mark.parametrize(("old", "new"), [(441, 160), (3, 1), (1, 2), (160, 441), (2, 3), (80, 441)])
def test_the_sum_for_each_sample_is_torchaudios(old: int, new: int) -> None:
    wav = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    total = -(-5000 * new // old)
    ours = resampling._interpolate(wav, old, new, first=0, start=0, stop=total)
    # in double precision: of float32 signals torchaudio computes its kernels' phases in float32, with errors of 1e-5
    np.testing.assert_allclose(ours, AF.resample(torch.from_numpy(wav).double(), old, new).numpy(), atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 32000, 44100, 48000, 96000])
def test_usual_rates_are_exactly_torchaudios(tmp_path, rate: int) -> None:
    sf.write(tmp_path / "x.wav", np.random.default_rng(0).uniform(-1, 1, rate // 2), rate, subtype="FLOAT")
    wav = sf.read(tmp_path / "x.wav", dtype="float32")[0]
    # read in blocks with silence around them, so that the last bits of the convolution can differ
    np.testing.assert_allclose(
        audio.read(tmp_path / "x.wav"), AF.resample(torch.from_numpy(wav), rate, 16000).numpy(), atol=2e-6
    )


@pytest.mark.parametrize("rate", ODD)
@pytest.mark.parametrize("sample_rate", [16000, 24000])
def test_odd_rates_keep_a_tone_in_bounded_memory(tmp_path, rate: int, sample_rate: int) -> None:
    time = np.arange(int(0.4 * rate)) / rate
    sf.write(tmp_path / "x.wav", 0.5 * np.sin(2 * np.pi * 440 * time), rate, subtype="FLOAT")
    tracemalloc.start()
    wav = audio.read(tmp_path / "x.wav", sample_rate=sample_rate)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    assert abs(len(wav) - 0.4 * sample_rate) <= 1 and len(wav) == audio.num_samples(
        tmp_path / "x.wav", sample_rate=sample_rate
    )
    want = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(wav)) / sample_rate)
    np.testing.assert_allclose(wav[300:-300], want[300:-300], atol=2e-3)


@pytest.mark.parametrize("rate", [16_001, 44_101, 8_001])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_segment_at_an_odd_rate_equals_that_part_of_the_whole(tmp_path, rate: int, channels: int) -> None:
    wav = np.random.default_rng(0).uniform(-1, 1, (rate // 2, channels))
    sf.write(tmp_path / "x.wav", wav, rate, subtype="FLOAT")
    whole = audio.read(tmp_path / "x.wav", channels=channels)
    for start, length in ((0, 100), (1, 4000), (3777, 2000), (7990, 100), (9000, 5), (7000, None)):
        part = audio.read(tmp_path / "x.wav", start=start, length=length, channels=channels)
        want = whole[..., start : None if length is None else start + length]
        np.testing.assert_allclose(part, want, atol=1e-6)


@pytest.mark.parametrize("rate", [1, 999, 2**31 - 1])
def test_a_rate_that_no_recording_has_is_refused_by_name(tmp_path, rate: int) -> None:
    sf.write(tmp_path / "x.wav", np.ones(100), 16000)
    data = bytearray((tmp_path / "x.wav").read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "x.wav").write_bytes(data)
    for read in (audio.read, audio.num_samples):
        with pytest.raises(ValueError, match=f"x.wav says {rate} Hz; rates of 1000 to 1000000 Hz"):
            read(tmp_path / "x.wav")
