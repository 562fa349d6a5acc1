from __future__ import annotations

import logging

import numpy as np
import pytest
import soundfile as sf

from data import audio


def tone(samples: int, rate: int, channels: int = 1) -> np.ndarray:
    wav = 0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / rate)[:, None]
    return np.repeat(wav, channels, axis=1).astype(np.float32)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_formats(tmp_path, suffix: str) -> None:
    path = tmp_path / f"a b.{suffix}"
    sf.write(path, tone(16000, 16000), 16000)
    wav = audio.read(path)
    assert wav.dtype == np.float32 and wav.ndim == 1
    assert abs(len(wav) - 16000) <= (2400 if suffix == "mp3" else 0)  # mp3 pads to whole frames of its own
    assert audio.num_samples(path) == len(wav)
    middle = wav[4000:12000]
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (16000, 2), (8000, 1), (44100, 2), (48000, 1), (22050, 3)])
@pytest.mark.parametrize(("start", "length"), [(0, 100), (1, 4000), (7777, 8000), (15990, 100), (16000, 5), (0, None)])
def test_a_segment_equals_the_same_part_of_the_whole(tmp_path, rate, channels, start, length) -> None:
    rng = np.random.default_rng(0)
    sf.write(tmp_path / "x.wav", 0.3 * rng.standard_normal((rate, channels)).clip(-3, 3), rate, subtype="FLOAT")
    whole = audio.read(tmp_path / "x.wav")
    assert abs(len(whole) - 16000) <= 1
    part = audio.read(tmp_path / "x.wav", start=start, length=length)
    want = whole[start : None if length is None else start + length]
    np.testing.assert_allclose(part, want, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("suffix", "subtype"), [("flac", "PCM_16"), ("flac", "PCM_24"), ("wav", "PCM_16")])
def test_a_segment_is_exactly_that_part_of_the_decoded_file(tmp_path, suffix, subtype, channels) -> None:
    path = tmp_path / f"x.{suffix}"
    rng = np.random.default_rng(0)
    sf.write(path, rng.uniform(-1, 1, (50_000, channels)), 16000, subtype)
    whole = sf.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
    for start in (0, 1, 4095, 4096, *rng.integers(50_000, size=20), 49_999, 50_000):
        for length in (1, 4096, 9000, None):
            part = audio.read(path, start=start, length=length)
            assert np.array_equal(part, whole[start : None if length is None else start + length])
    for position in (0, 0.3, 0.77, 0.99999):
        start = int(position * (50_000 - 9000 + 1))
        assert np.array_equal(audio.read_crop(path, length=9000, position=position), whole[start : start + 9000])


def test_resampling_keeps_a_tone(tmp_path) -> None:
    sf.write(tmp_path / "x.wav", tone(44100, 44100, 2), 44100, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "x.wav")[500:-500], tone(16000, 16000)[500:-500, 0], atol=2e-3)


def test_conversion_is_said_once(tmp_path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(audio, "_said", set())
    for name in ("a.wav", "b.wav"):
        sf.write(tmp_path / name, tone(800, 8000), 8000)
    with caplog.at_level(logging.INFO):
        for name in ("a.wav", "b.wav"):
            audio.read(tmp_path / name)
    assert [r.getMessage() for r in caplog.records if "8000 Hz" in r.getMessage()] == [
        f"8000 Hz, 1 channels: converted to 16000 Hz mono (first such file: {tmp_path / 'a.wav'})"
    ]


def test_only_the_segment_is_decoded(tmp_path, monkeypatch) -> None:
    sf.write(tmp_path / "x.wav", tone(160000, 16000), 16000)
    calls = []

    def spy(name):
        original = getattr(sf.SoundFile, name)

        def called(self, frames, *args, **more):
            calls.append((name, frames))
            return original(self, frames, *args, **more)

        monkeypatch.setattr(sf.SoundFile, name, called)

    spy("seek"), spy("read")
    audio.read(tmp_path / "x.wav", start=100000, length=500)
    audio.read_crop(tmp_path / "x.wav", length=700, position=0.5)
    assert calls == [("seek", 100000), ("read", 500), ("seek", 79650), ("read", 700)]  # no seek after a read


def test_crops_reach_every_place_and_pad_short_files(tmp_path) -> None:
    sf.write(tmp_path / "x.wav", np.arange(1, 11) / 100, 16000, subtype="FLOAT")
    starts = {round(100 * float(audio.read_crop(tmp_path / "x.wav", length=8, position=p)[0])) for p in (0, 0.4, 0.999)}
    assert starts == {1, 2, 3}
    padded = audio.read_crop(tmp_path / "x.wav", length=12, position=0.7)
    np.testing.assert_allclose(padded, np.r_[np.arange(1, 11) / 100, 0, 0], atol=1e-7)


def test_bad_files_are_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.wav"):
        audio.read(tmp_path / "nothing.wav")
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(ValueError, match="text.wav as audio"):
        audio.num_samples(tmp_path / "text.wav")
    sf.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    with pytest.raises(ValueError, match="empty.wav holds no samples"):
        audio.read(tmp_path / "empty.wav")
    sf.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match="nan.wav holds samples that are not finite"):
        audio.read(tmp_path / "nan.wav")


def test_write_and_read_back(tmp_path) -> None:
    wav = tone(1000, 16000)[:, 0]
    audio.write(tmp_path / "new/x.wav", wav)
    np.testing.assert_allclose(audio.read(tmp_path / "new/x.wav"), wav, atol=1 / 32000)
    assert sf.info(tmp_path / "new/x.wav").subtype == "PCM_16"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.wav"]


def test_nothing_half_written_is_left(tmp_path, monkeypatch) -> None:
    audio.write(tmp_path / "x.wav", np.zeros(10))

    def fail(file, wav):
        raise OSError("disk full")

    monkeypatch.setattr(sf.SoundFile, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        audio.write(tmp_path / "x.wav", np.ones(10))
    monkeypatch.undo()
    assert not audio.read(tmp_path / "x.wav").any()
    assert [p.name for p in tmp_path.iterdir()] == ["x.wav"]


def test_what_a_file_cannot_hold(tmp_path, caplog) -> None:
    with pytest.raises(ValueError, match="not finite"):
        audio.write(tmp_path / "x.wav", np.array([np.nan]))
    audio.write(tmp_path / "x.wav", np.array([2.0, -3.0]))
    assert "peak 3.00" in caplog.text
    assert np.abs(audio.read(tmp_path / "x.wav")).max() <= 1


def test_a_signal_in_parts_is_the_whole_signal(tmp_path) -> None:
    wav = np.random.default_rng(0).uniform(-1, 1, 10_000).astype(np.float32)
    audio.write(tmp_path / "whole.wav", wav)
    audio.write_parts(tmp_path / "parts.wav", np.split(wav, [1, 500, 9000]))
    assert (tmp_path / "whole.wav").read_bytes() == (tmp_path / "parts.wav").read_bytes()


def test_a_part_that_is_not_finite_leaves_nothing(tmp_path) -> None:
    with pytest.raises(ValueError, match="refusing to write"):
        audio.write_parts(tmp_path / "x.wav", [np.zeros(10), np.full(10, np.nan)])
    assert list(tmp_path.iterdir()) == []
