"""Log-mel spectra as an encoder."""

from __future__ import annotations

import torch

from models.mel_encoder import MelEncoder


def test_frames_are_wavlms_and_see_their_own_window_alone() -> None:
    encoder = MelEncoder()
    torch.manual_seed(0)
    wav = torch.randn(1, 4000)
    (x,) = encoder(wav)
    assert x.shape == (1, encoder.grid.frames(4000), 40) and encoder.dim == 40
    # frame 3 sees samples 960 to 1360; the whole is divided by its own deviation, so a swap of samples keeps that
    other = wav.clone()
    other[:, 1500:4000] = wav[:, 1500:4000].flip(-1)
    assert torch.allclose(encoder(other)[0][:, :4], x[:, :4], atol=1e-5)
    assert not torch.allclose(encoder(other)[0][:, 5:], x[:, 5:], atol=1e-2)


def test_level_and_padding_make_no_difference() -> None:
    encoder = MelEncoder(deltas=True)
    torch.manual_seed(0)
    wav = torch.randn(2, 8000) * torch.linspace(0.1, 1, 8000)
    (x,) = encoder(wav[:1, :5000])
    assert torch.allclose(encoder(30 * wav[:1, :5000])[0], x, atol=1e-3)
    wav[0, 5000:] = 9.0
    (padded,) = encoder(wav, torch.tensor([5000, 8000]))
    frames = encoder.grid.frames(5000)
    assert x.shape[-1] == encoder.dim == 80
    assert torch.allclose(padded[0, : frames - 2], x[0, : frames - 2], atol=1e-4)  # deltas look two frames ahead


def test_a_tone_is_in_its_band() -> None:
    time = torch.arange(16000) / 16000
    (x,) = MelEncoder()(torch.sin(2 * torch.pi * 1000 * time)[None])
    # Slaney's scale is linear up to 1 kHz, at band 15 of 45.245 mels in 42 points
    assert int(x[0, 10].argmax()) in (13, 14, 15)
