from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch

from modules.stft_discriminator import STFTDiscriminator


def test_the_spectrogram_is_scipys() -> None:
    wav = torch.randn(2, 1, 1000, generator=torch.Generator().manual_seed(0))
    found = STFTDiscriminator(size=128).spectrogram(wav)
    window = scipy.signal.get_window("hann", 128)
    frames = np.lib.stride_tricks.sliding_window_view(wav[:, 0].numpy(), 128, axis=1)[:, ::32]
    wanted = np.fft.rfft(frames * window / np.sqrt((window**2).sum()))  # [B, frames, frequencies]
    assert found.shape == (2, 2, 28, 65)
    np.testing.assert_allclose(found[:, 0], wanted.real, atol=1e-5)
    np.testing.assert_allclose(found[:, 1], wanted.imag, atol=1e-5)


@pytest.mark.parametrize("size", [128, 256])
def test_layers_keep_the_time_and_halve_the_frequencies(size: int) -> None:
    score, layers = STFTDiscriminator(size=size, filters=4)(torch.randn(1, 1, 2000))
    frames, bins = (2000 - size) // (size // 4) + 1, size // 2 + 1
    widths = [bins, -(-bins // 2), -(-bins // 4), -(-bins // 8), -(-bins // 8)]
    assert [tuple(layer.shape) for layer in layers] == [(1, 4, frames, width) for width in widths]
    assert score.shape == (1, frames * widths[-1])


def test_it_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in STFTDiscriminator(size=1024).parameters()) * 5 == 472_330


def test_speech_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="stft_sizes: an FFT of 256 samples is longer than the speech, 255 samples"):
        STFTDiscriminator(size=256)(torch.zeros(1, 1, 255))
