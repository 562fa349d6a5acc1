"""What files promise and what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from data import audio, containers

SAMPLES = 32_000


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(SAMPLES)).astype(np.float32)


def first_part(path: Path, share: float = 0.45) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def patch(path: Path, **places: int) -> None:
    """Write a wav file's size fields: ``riff`` and ``data``."""
    data = bytearray(path.read_bytes())
    for name, value in places.items():
        at = {"riff": 4, "data": 40}[name]
        data[at : at + 4] = value.to_bytes(4, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        *(("wav", "WAV"), ("wav", "WAVEX"), ("flac", "FLAC"), ("mp3", "MP3"), ("aiff", "AIFF"), ("au", "AU")),
        *(("w64", "W64"), ("wav", "RF64"), ("sph", "NIST")),
    ],
)
def test_a_cut_file_is_refused_with_both_numbers(tmp_path, sound, suffix: str, form: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    sf.write(path, sound, 16000, format=form)
    assert audio.read(path).shape == (SAMPLES,) and audio.header(path) == audio.Header(SAMPLES, 16000, 1)
    first_part(path)
    for read in (
        lambda: audio.read(path),
        lambda: audio.read(path, start=28_000, length=2000),
        lambda: audio.read_crop(path, length=20_000, position=0.9),
    ):
        with pytest.raises(
            ValueError, match=rf"cut.{suffix} is incomplete: its header promises {SAMPLES} samples, 1\d"
        ):
            read()


def test_what_a_cut_flac_still_has_can_be_read(tmp_path, sound) -> None:
    sf.write(tmp_path / "cut.flac", sound, 16000)
    whole = audio.read(tmp_path / "cut.flac")
    first_part(tmp_path / "cut.flac")
    assert np.array_equal(audio.read(tmp_path / "cut.flac", start=100, length=9000), whole[100:9100])


@pytest.mark.parametrize("form", ["ogg", "opus"])
def test_a_cut_ogg_stream_is_refused_or_said(tmp_path, caplog, form: str) -> None:
    path = tmp_path / f"cut.{form}"
    sound = np.sin(np.arange(160_000) * 0.03) * np.random.default_rng(0).uniform(0, 0.5, 160_000)
    sf.write(path, sound, 16000, format="OGG", subtype="VORBIS" if form == "ogg" else "OPUS")
    assert len(audio.read(path)) == 160_000 and not caplog.text
    first_part(path, 0.6)
    held = len(audio.read(path))
    assert 10_000 < held < 150_000
    assert f"cut.{form} has no mark of its end and may be cut off: {held} samples" in caplog.text
    first_part(path, 0.02)
    with pytest.raises(ValueError, match=f"cut.{form}"):
        audio.read(path)


def test_a_flac_stream_of_unknown_length_is_read_to_its_end(tmp_path, sound) -> None:
    path = tmp_path / "stream.flac"
    sf.write(path, sound, 16000)
    whole = audio.read(path)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the 36 bits of STREAMINFO that count samples
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert audio.num_samples(path) == SAMPLES
    assert np.array_equal(audio.read(path), whole)
    for start, length in ((0, 10), (12_345, 5000), (31_990, 100), (SAMPLES, 5)):
        assert np.array_equal(audio.read(path, start=start, length=length), whole[start : start + length])
    assert len(audio.read_crop(path, length=8000, position=0.99)) == 8000


@pytest.mark.parametrize(("riff", "data"), [(0, 0), (36, 0)])
def test_a_wav_file_whose_size_was_never_written_is_refused(tmp_path, sound, riff: int, data: int) -> None:
    sf.write(tmp_path / "unfinished.wav", sound, 16000)
    patch(tmp_path / "unfinished.wav", riff=riff, data=data)
    with pytest.raises(ValueError, match=f"not finished: its header says 0 bytes of sound, but {2 * SAMPLES} bytes"):
        audio.num_samples(tmp_path / "unfinished.wav")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF - 36, 0x7FFFF000])
def test_a_streamed_wav_file_is_read_to_its_end(tmp_path, sound, size: int) -> None:
    sf.write(tmp_path / "streamed.wav", sound, 16000)
    whole = audio.read(tmp_path / "streamed.wav")
    patch(tmp_path / "streamed.wav", riff=0xFFFFFFFF, data=size)
    assert np.array_equal(audio.read(tmp_path / "streamed.wav"), whole)


def test_an_empty_wav_file_with_further_chunks_is_only_empty(tmp_path) -> None:
    sf.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    with open(tmp_path / "empty.wav", "ab") as file:
        file.write(b"LIST" + (4).to_bytes(4, "little") + b"INFO")
    with pytest.raises(ValueError, match="holds no samples"):
        audio.read(tmp_path / "empty.wav")


def test_a_byte_too_many_is_no_missing_sample(tmp_path, sound) -> None:
    sf.write(tmp_path / "odd.wav", sound, 16000)
    patch(tmp_path / "odd.wav", data=2 * SAMPLES + 1)
    assert audio.num_samples(tmp_path / "odd.wav") == SAMPLES


def test_sound_after_the_sound_of_a_wav_file_is_said(tmp_path, sound, caplog) -> None:
    sf.write(tmp_path / "more.wav", sound, 16000)
    patch(tmp_path / "more.wav", data=2000)
    assert audio.num_samples(tmp_path / "more.wav") == 1000
    assert f"after the 1000 samples of its header come {2 * SAMPLES - 2000} bytes more" in caplog.text


def without_first_frame(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[data.index(data[:2], 4) :])


def test_an_mp3_file_whose_length_is_a_wrong_estimate_is_refused(tmp_path, sound) -> None:
    """libsndfile stops where the estimate ends: the rest was lost without a word."""
    path = tmp_path / "estimated.mp3"
    sf.write(path, sound, 16000, subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.5)
    assert len(audio.read(path)) == SAMPLES
    without_first_frame(path)
    with pytest.raises(ValueError, match=r"promises 1\d+ samples, or none .* about 3\d+ are in the file"):
        audio.read(path)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_whole_mp3_files_are_read(tmp_path, rate: int, mode: str) -> None:
    path = tmp_path / "whole.mp3"
    wav = 0.1 * np.random.default_rng(0).standard_normal((rate, 2))
    sf.write(path, wav, rate, subtype="MPEG_LAYER_III", bitrate_mode=mode, compression_level=0.5)
    data = path.read_bytes()
    tag = b"ID3\4\0\0" + bytes([0, 0, 1, 0]) + bytes(128)
    path.write_bytes(tag + data + b"TAG" + bytes(125))
    assert len(audio.read(path, sample_rate=rate)) == rate


def test_what_is_known_of_a_file_goes_with_its_change(tmp_path, sound) -> None:
    path = tmp_path / "x.flac"
    sf.write(path, sound, 16000)
    assert containers.decodable(path) == SAMPLES
    sf.write(path, sound[:1000], 16000)
    assert containers.decodable(path) == 1000


def test_a_wav_header_with_nothing_behind_it_is_incomplete(tmp_path, sound) -> None:
    """It was a division by zero, which ended the run of a whole list."""
    path = tmp_path / "x.wav"
    sf.write(path, sound, 16000)
    path.write_bytes(path.read_bytes()[:44])
    with pytest.raises(ValueError, match="x.wav is incomplete: its header promises 64000 bytes, no sample"):
        audio.header(path)


@pytest.mark.parametrize(("suffix", "form", "subtype"), [("wav", "WAV", "GSM610"), ("au", "AU", "G721_32")])
def test_forms_that_cannot_seek_are_read_from_their_beginning(tmp_path, sound, suffix, form, subtype) -> None:
    """They were refused as incomplete, with 0 samples that can be read."""
    path = tmp_path / f"x.{suffix}"
    sf.write(path, sound, 8000, format=form, subtype=subtype)
    whole = audio.read(path, sample_rate=8000)
    np.testing.assert_array_equal(whole[: len(sound)], sf.read(path, dtype="float32")[0][: len(sound)])
    np.testing.assert_array_equal(audio.read(path, start=5000, length=999, sample_rate=8000), whole[5000:5999])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_of_several_recordings_is_said(tmp_path, sound, caplog, subtype: str) -> None:
    """Of two files put together the second was left out without a word."""
    path = tmp_path / "x.ogg"
    sf.write(path, sound, 16000, format="OGG", subtype=subtype)
    assert audio.num_samples(path) == SAMPLES and not caplog.records
    path.write_bytes(path.read_bytes() * 2)
    assert len(audio.read(path)) == SAMPLES
    assert f"{path} is several recordings one after another: the first, of {SAMPLES} samples" in caplog.text
