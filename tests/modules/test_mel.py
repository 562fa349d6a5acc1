"""Log-mel spectrograms against librosa's, and the distance in them."""

from __future__ import annotations

import pytest
import torch

from modules.mel import LogMel, MelDistance


@pytest.fixture(scope="module")
def wav() -> torch.Tensor:
    """[2, 9000]: noise under a decaying tone, and silence after it."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(9000) / 16000
    tone = torch.sin(2 * torch.pi * torch.tensor([[220.0], [1900.0]]) * time) * torch.exp(-4 * time)
    return (0.5 * tone + 0.02 * torch.randn(2, 9000, generator=generator)) * (time < 0.4)


@pytest.mark.parametrize(("size", "bands"), [(1024, 80), (512, 40), (2048, 160)])
def test_it_is_librosas(wav, size: int, bands: int) -> None:
    librosa = pytest.importorskip("librosa")
    ours = LogMel(size=size, bands=bands)(wav)
    magnitudes = librosa.feature.melspectrogram(
        y=wav.numpy(), sr=16000, n_fft=size, hop_length=size // 4, win_length=size, n_mels=bands, fmin=0, fmax=8000,
        power=1.0, htk=False, norm="slaney", pad_mode="reflect",
    )  # fmt: skip
    theirs = torch.from_numpy(magnitudes).clamp(min=1e-5).log()
    assert ours.shape == theirs.shape == (2, bands, 9000 // (size // 4) + 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)
    assert ours.min() == pytest.approx(torch.tensor(1e-5).log().item())  # the silence is at the floor


def test_within_autocast_it_is_as_without(wav) -> None:
    mel = MelDistance()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mel(wav, wav.flip(0)), mel(wav, wav.flip(0)))
        inside = mel(wav, wav.flip(0))
    assert inside.dtype == torch.float32 and torch.equal(inside, mel(wav, wav.flip(0)))


def test_the_distance_is_a_mean_over_all_that_there_is(wav) -> None:
    mel = MelDistance()
    assert mel(wav, wav) == 0 and mel(wav, wav.flip(0)) > 0
    torch.testing.assert_close(mel(wav, wav.flip(0)), mel(wav[:1], wav[1:]))  # of both items, the same
    torch.testing.assert_close(mel(0.5 * wav[:, :5000], wav[:, :5000]), torch.tensor(2.0).log(), rtol=0, atol=1e-3)


def test_several_resolutions_are_the_mean_of_each(wav) -> None:
    sizes = (256, 512, 1024, 2048)
    each = [MelDistance(sizes=[size])(wav, wav.flip(0)) for size in sizes]
    torch.testing.assert_close(MelDistance(sizes=sizes)(wav, wav.flip(0)), torch.stack(each).mean())
    assert [mel.filters.shape[1] for mel in MelDistance(sizes=sizes).spectrograms] == [20, 40, 80, 160]


def test_silence_has_gradients_that_are_finite() -> None:
    silence = torch.zeros(1, 4000, requires_grad=True)
    MelDistance(sizes=[512, 1024])(silence, torch.ones(1, 4000)).backward()
    assert silence.grad.isfinite().all()


@pytest.mark.parametrize("size", [64, 128, 256, 512, 1024, 2048, 4096])
def test_no_band_is_empty(size: int) -> None:
    (mel,) = MelDistance(sizes=[size]).spectrograms
    assert (mel.filters.amax(dim=0) > 0).all()


def test_what_cannot_be_is_refused(wav) -> None:
    with pytest.raises(ValueError, match="of 80 mel bands are empty with an FFT of 128 samples"):
        LogMel(size=128, bands=80)
    with pytest.raises(ValueError, match="needs more than 512 samples, got 512"):
        LogMel()(wav[:, :512])
    with pytest.raises(ValueError, match="got none"):
        MelDistance(sizes=[])


def test_windows_that_are_not_centred_begin_before_the_first_sample(wav) -> None:
    """As HiFi-GAN pads: (size - hop) / 2 mirrored samples on either side."""
    mel = LogMel(size=512, hop=120, bands=40, centred=False, scale="htk", eps=1e-9)
    padded = torch.nn.functional.pad(wav, (196, 196), mode="reflect")
    frames = padded.unfold(-1, 512, 120) * torch.hann_window(512)
    magnitudes = torch.fft.rfft(frames).abs() + 1e-9
    wanted = (magnitudes @ mel.filters).clamp(min=1e-5).log().transpose(1, 2)
    assert mel(wav).shape == (2, 40, 9000 // 120)
    torch.testing.assert_close(mel(wav), wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("size", "empty"), [(1024, 0), (512, 0), (256, 2), (128, 13)])
def test_empty_bands_can_be_wanted(size: int, empty: int) -> None:
    mel = LogMel(size=size, hop=30, bands=80, scale="htk", allow_empty=True)
    assert int((mel.filters.amax(dim=0) == 0).sum()) == empty
