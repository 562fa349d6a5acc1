from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest
import soundfile as sf

from data import audio, containers, lengths


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


@pytest.fixture
def fresh(monkeypatch) -> None:
    """What is said once in a process is said again."""
    monkeypatch.setattr(containers, "_warned", set())


@pytest.mark.parametrize("rate", [16000, 44100])
def test_channels_are_kept_folded_or_required(tmp_path, rate: int) -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 3):
        sf.write(tmp_path / f"{count}.wav", rng.uniform(-1, 1, (rate, count)), rate, subtype="FLOAT")
    three = audio.read(tmp_path / "3.wav", channels=None)
    assert three.shape == (3, 16000) and np.array_equal(three, audio.read(tmp_path / "3.wav", channels=3))
    np.testing.assert_allclose(three.mean(axis=0), audio.read(tmp_path / "3.wav"), atol=2e-6)
    part = audio.read(tmp_path / "3.wav", channels=None, start=7000, length=500)
    np.testing.assert_allclose(part, three[:, 7000:7500], atol=2e-6)
    mono = audio.read(tmp_path / "1.wav")
    assert mono.shape == (16000,) and np.array_equal(audio.read(tmp_path / "1.wav", channels=None), mono)
    assert audio.read_crop(tmp_path / "2.wav", length=20_000, position=0.5, channels=2).shape == (2, 20_000)
    assert audio.read_part(tmp_path / "2.wav", length=20_000, position=0.5, channels=None).shape == (2, 16_000)
    for count, wanted in ((1, 2), (3, 2), (2, 8)):
        with pytest.raises(ValueError, match=rf"{count}.wav has {count} channels?, {wanted} are needed"):
            audio.read(tmp_path / f"{count}.wav", channels=wanted)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 24000, 48000])
def test_any_rate_is_read(tmp_path, sample_rate: int) -> None:
    sf.write(tmp_path / "x.wav", tone(22050, 22050), 22050, subtype="FLOAT")
    wav = audio.read(tmp_path / "x.wav", sample_rate=sample_rate)
    assert len(wav) == sample_rate == audio.num_samples(tmp_path / "x.wav", sample_rate=sample_rate)
    np.testing.assert_allclose(wav[500:-500], tone(sample_rate, sample_rate)[500:-500, 0], atol=2e-3)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("right", [-1.0, -0.9])
def test_channels_that_cancel_are_not_taken_for_silence(tmp_path, caplog, rate: int, right: float) -> None:
    wav = tone(3 * rate, rate)
    sf.write(tmp_path / "anti.wav", wav * [1.0, right], rate, subtype="FLOAT")
    sf.write(tmp_path / "mono.wav", wav, rate, subtype="FLOAT")
    heard = audio.read(tmp_path / "anti.wav")
    np.testing.assert_allclose(heard, audio.read(tmp_path / "mono.wav"), atol=1e-6)
    assert np.array_equal(audio.read(tmp_path / "anti.wav", start=5000, length=700), heard[5000:5700]) or rate != 16000
    assert caplog.text.count("anti.wav: its 2 channels cancel in their mean; channel 1 is taken") == 1


@pytest.mark.usefixtures("fresh")
def test_other_channels_are_folded_to_their_mean(tmp_path, caplog) -> None:
    rng = np.random.default_rng(0)
    independent = 0.1 * rng.standard_normal((16000, 8))
    one_of_eight = independent * [1, 0, 0, 0, 0, 0, 0, 0]
    for name, wav in (("independent", independent), ("one", one_of_eight), ("silent", 0 * independent)):
        sf.write(tmp_path / f"{name}.wav", wav, 16000, subtype="FLOAT")
        np.testing.assert_allclose(audio.read(tmp_path / f"{name}.wav"), wav.mean(axis=1), atol=1e-6)
    assert "cancel" not in caplog.text


@pytest.mark.usefixtures("fresh")
def test_what_can_hold_no_speech_is_told(tmp_path, caplog) -> None:
    sound = tone(16000, 16000)[:, 0]
    assert audio.why_no_speech(sound) is None and audio.why_no_speech(np.stack([sound, 0 * sound])) is None
    assert audio.why_no_speech(sound[:12]) == "has only 12 samples (0.8 ms)"
    assert audio.why_no_speech(np.zeros(16000)) == "is silent: all samples are 0"
    assert audio.why_no_speech(np.full(16000, 0.25)) == "is no sound: all samples of a channel are the same, 0.25"
    for value in (0.0, 0.25):
        path = tmp_path / f"{value}.wav"
        sf.write(path, np.full(16000, value), 16000)
        with pytest.raises(ValueError, match=f"{path} is (silent|no sound)"):
            audio.require_speech(audio.read(path), path)
        audio.read(path)
        assert caplog.text.count(f"{path} has no sound in it: its samples, all, are {value:.4g}") == 1
    sf.write(tmp_path / "pause.wav", np.concatenate([sound, np.full(8000, 0.01), sound]), 16000)
    audio.read(tmp_path / "pause.wav", start=17_000, length=4000)
    assert "pause.wav" not in caplog.text


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("rate", [8000, 96000])
def test_all_kinds_of_samples(tmp_path, subtype: str, channels: int, rate: int) -> None:
    sf.write(tmp_path / "x.wav", tone(rate, rate, channels), rate, subtype)
    for wav in (audio.read(tmp_path / "x.wav"), audio.read(tmp_path / "x.wav", channels=channels)):
        assert np.abs(wav[..., 500:-500] - tone(16000, 16000)[500:-500, 0]).max() < 0.01


def test_what_is_no_audio_file_is_said(tmp_path) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to("gone.wav")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "header.wav").write_bytes(b"RIFF\x24\0\0\0WAVEfmt ")
    (tmp_path / "zeros.wav").write_bytes(bytes(5000))
    os.mkfifo(tmp_path / "pipe.wav")
    reasons = {
        "folder": "is a folder, not an audio file",
        "link": "is a link to gone.wav, which is not there",
        "empty": "the file is empty",
        "header": "as audio",
        "zeros": "as audio",
        "pipe": "is no file on a disk",
    }
    for name, reason in reasons.items():
        for read in (audio.read, audio.num_samples):
            with pytest.raises((ValueError, OSError), match=rf"{name}.wav.*{reason}"):
                read(tmp_path / f"{name}.wav")


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch) -> None:
    sf.write(tmp_path / "x.wav", tone(100, 16000), 16000)

    def refused(path, *_):
        if os.fspath(path).endswith("x.wav"):
            raise PermissionError(13, "Permission denied", os.fspath(path))

    def broken(*_):
        raise sf.LibsndfileError(2)

    monkeypatch.setattr(audio, "OneSegment", broken)  # root may read everything
    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(PermissionError, match="x.wav"):
        audio.read(tmp_path / "x.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16000, 8000, 16001])
def test_samples_that_are_not_finite_are_refused(tmp_path, value: float, channels: int, rate: int) -> None:
    wav = tone(1000, rate, channels).astype(np.float64)
    wav[500, 0] = value
    sf.write(tmp_path / "x.wav", wav, rate, subtype="DOUBLE")
    for wanted in (1, None):
        with pytest.raises(ValueError, match="x.wav holds samples that are not finite"):
            audio.read(tmp_path / "x.wav", channels=wanted)


@pytest.mark.parametrize("suffix", list(audio.WRITABLE))
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_form_and_all_channels_are_written(tmp_path, suffix: str, channels: int) -> None:
    wav = np.random.default_rng(0).uniform(-1, 1, (channels, 5000)).astype(np.float32)
    wav = wav[0] if channels == 1 else wav
    path = tmp_path / f"x{suffix.upper()}"
    audio.require_writable_form(path)
    audio.write_parts(path, [wav[..., :100], wav[..., 100:]], sample_rate=24000)
    assert audio.header(path) == audio.Header(5000, 24000, channels)
    back = audio.read(path, sample_rate=24000, channels=None)
    assert back.shape == wav.shape and np.abs(back - wav).max() <= 1 / 32768
    with pytest.raises(ValueError, match="a part has the shape"):
        audio.write_parts(path, [wav, np.zeros((channels + 1, 10))])
    assert np.array_equal(audio.read(path, sample_rate=24000, channels=None), back)


def test_forms_that_are_not_written_are_told_early(tmp_path) -> None:
    for name, reason in {
        "x.mp3": "no .mp3 files are written; one of .wav, .flac",
        "x.ogg": "no .ogg files",
        "x.txt": "no .txt files",
        "x": "it has no ending",
        ".wav": "it has no ending",
        "new/": "is a folder",
        ".": "is a folder",
    }.items():
        path = f"{tmp_path}/{name}"
        for refuse in (audio.require_writable_form, lambda path: audio.write(path, np.zeros(10))):
            with pytest.raises(ValueError, match=reason):
                refuse(path)
    with pytest.raises(ValueError, match="x.flac: FLAC of 9 channels"):
        audio.write(tmp_path / "x.flac", np.zeros((9, 100)))
    assert list(tmp_path.iterdir()) == []


def test_lengths_that_are_known_are_not_read_again(tmp_path, monkeypatch) -> None:
    for number in range(100):
        sf.write(tmp_path / f"{number}.wav", tone(100 + number, 8000), 8000)
    (tmp_path / "text.wav").write_text("no sound")
    paths = [*(tmp_path / f"{number}.wav" for number in range(100)), tmp_path / "text.wav", tmp_path / "gone.wav"]
    found, problems = lengths.measure(paths)
    assert [found[str(path)].at(16000) for path in paths[:100]] == [audio.num_samples(path) for path in paths[:100]]
    assert list(problems) == [str(path) for path in paths[100:]] and "gone.wav" in problems[str(paths[-1])]
    known = json.loads(json.dumps(found))
    sf.write(paths[5], tone(555, 16000), 16000)
    opened = []
    header = audio.header
    monkeypatch.setattr(audio, "header", lambda path: opened.append(path) or header(path))
    again, _ = lengths.measure(paths[:100], known=known)
    assert opened == [str(paths[5])] and again[str(paths[5])].at(16000) == 555
    assert {path: again[path] for path in again if path not in opened} == {
        path: found[path] for path in found if path not in opened
    }


def test_a_name_need_not_be_utf_8(tmp_path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path / "caf") + b"\xe9.wav")
    audio.write(path, tone(1000, 16000)[:, 0])
    assert audio.num_samples(path) == 1000 and len(audio.read(path)) == 1000
    with open(path, "wb") as file:
        file.write(b"no sound")
    with pytest.raises(ValueError, match="Format not recognised"):
        audio.header(path)


def test_a_full_disk_is_told_with_the_file(tmp_path, no_room) -> None:
    """libsndfile says "System error", which came with a traceback."""
    with no_room(5000), pytest.raises(OSError, match=r"cannot write .*x.wav .* bytes are free on its disk"):
        audio.write(tmp_path / "x.wav", tone(16000, 16000)[:, 0])
    assert not list(tmp_path.iterdir())


def test_lengths_that_another_program_kept_are_not_used(tmp_path) -> None:
    sf.write(tmp_path / "x.wav", tone(1000, 16000), 16000)
    path = str(tmp_path / "x.wav")
    found, problems = lengths.measure([path], known={path: [1, 2]})
    assert found[path].samples == 1000 and not problems
