from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import soundfile as sf
import torch

from data import audio
from modules.spectral import spectrogram_image
from page.sound import Columns, Limits, cut_stretch, require_voice, require_within, show


def chirp(seconds: float, rate: int = 16000) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (200 * time + 3000 / seconds * time**2 / 2))).astype(np.float32)


def test_a_recording_becomes_one_channel_and_a_picture(tmp_path) -> None:
    path = tmp_path / "talk.flac"
    sf.write(path, np.stack([chirp(2.0, 44100)] * 2, axis=1), 44100)
    parts = []
    (tmp_path / "shown").mkdir()
    shown = show(path, "talk.flac", tmp_path / "shown", check=parts.append)
    assert shown.seconds == pytest.approx(2.0, abs=0.001) and parts == [0.0]
    np.testing.assert_allclose(audio.read(shown.sound), audio.read(path), atol=1e-4)
    Image = pytest.importorskip("PIL.Image")
    picture = np.asarray(Image.open(shown.picture).convert("L"), dtype=float)
    height, width = picture.shape
    brightest = [picture[:, column].argmax() for column in range(5, width - 5)]
    assert np.corrcoef(brightest, np.arange(len(brightest)))[0, 1] < -0.99  # it rises, and 0 Hz is at the bottom


def test_the_picture_does_not_depend_on_how_the_sound_is_cut() -> None:
    wav = chirp(1.7)
    whole, cut = Columns(len(wav)), Columns(len(wav))
    whole.add(wav)
    for start in range(0, len(wav), 777):
        cut.add(wav[start : start + 777])
    torch.testing.assert_close(cut.picture(), whole.picture())
    reference = spectrogram_image(torch.from_numpy(wav))  # its frames begin before the sound
    loudest = []
    for picture in (reference, whole.picture()):
        columns = torch.linspace(0, picture.shape[2] - 1, 50).long()
        loudest.append(picture.mean(0)[:, columns].argmax(0).float())
    assert (loudest[0] - loudest[1])[2:-2].abs().max() <= 6


@pytest.mark.parametrize("samples", [1, 300, 513, 640])
def test_what_is_shorter_than_a_window_has_a_picture_too(samples) -> None:
    columns = Columns(samples)
    columns.add(np.ones(samples, dtype=np.float32))
    assert torch.isfinite(columns.picture()).all()


def test_a_long_one_is_not_held_in_memory(tmp_path) -> None:
    path = tmp_path / "long.flac"
    sf.write(path, np.tile(chirp(1.0, 8000), 20 * 60), 8000)
    (tmp_path / "shown").mkdir()
    tracemalloc.start()
    show(path, "long.flac", tmp_path / "shown")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 60 * 16000 * 4 / 2  # bytes: half of what the whole takes


def test_limits_are_told_with_the_way_out(tmp_path) -> None:
    path = tmp_path / "talk.wav"
    sf.write(path, chirp(2.0), 16000)
    require_within(path, Limits())
    with pytest.raises(ValueError, match=r"talk.wav is 0.0 minutes long, and this page takes 0.01 at most: cut it"):
        require_within(path, Limits(minutes=0.01))
    voice = tmp_path / "voice.flac"
    sf.write(voice, np.zeros(round(5.5 * 60 * 8000)), 8000)
    with pytest.raises(ValueError, match=r"voice.flac is 5.5 minutes long, and of a voice this page takes 5 at most"):
        require_voice(voice, Limits())
    require_voice(path, Limits())
    with pytest.raises(ValueError, match=r"talk.wav has 0 MB, and this page takes 0.01 MB at most: flac .* --max-mb"):
        require_within(path, Limits(megabytes=0.01))


def test_a_stretch_keeps_rate_and_channels(tmp_path) -> None:
    path, output = tmp_path / "talk.wav", tmp_path / "stretch.wav"
    both = np.stack([chirp(2.0, 8000), -chirp(2.0, 8000)], axis=1)
    sf.write(path, both, 8000, subtype="FLOAT")
    cut_stretch(path, 0.5, 1.25, output)
    found, rate = sf.read(output, dtype="float32")
    assert rate == 8000
    np.testing.assert_array_equal(found, both[4000:10000])


@pytest.mark.parametrize(
    "start, end, said",
    [
        (1.0, 1.2, "the stretch from 1 to 1.2 s of .*talk.wav is too short to know a voice by: mark 0.5 s or more"),
        (1.0, 61.5, "the stretch from 1 to 61.5 s of .*talk.wav is longer than a voice needs: mark 60 s or less"),
        (1.0, 73.0, "talk.wav has no stretch from 1 to 73 s: it is 70.00 s long"),
        (1.5, 0.5, "has no stretch from 1.5 to 0.5 s"),
        (-1.0, 0.5, "has no stretch from -1 to 0.5 s"),
    ],
)
def test_a_stretch_that_is_none_is_refused(tmp_path, start, end, said) -> None:
    path = tmp_path / "talk.wav"
    sf.write(path, chirp(70.0, 8000), 8000)
    with pytest.raises(ValueError, match=said):
        cut_stretch(path, start, end, tmp_path / "stretch.wav")
    assert not (tmp_path / "stretch.wav").exists()
