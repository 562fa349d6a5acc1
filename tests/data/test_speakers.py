from __future__ import annotations

import json
import logging

import pytest
import torch

from data.speakers import read_index, read_speakers, write_speakers

INDEX = {"19": ["a/1.flac", "a/2.flac"], "26": ["b/1.flac", "b/2.flac", "/abs/b/3.flac"]}


@pytest.mark.parametrize("form", ["pt", "json"])
def test_both_forms(tmp_path, form: str) -> None:
    path = tmp_path / f"train.{form}"
    torch.save(INDEX, path) if form == "pt" else path.write_text(json.dumps(INDEX))
    assert read_speakers(path) == {s: [tmp_path / p for p in paths] for s, paths in INDEX.items()}


def test_speakers_that_cannot_be_a_target_are_left_out_and_counted(tmp_path, caplog) -> None:
    index = {**INDEX, "1": ["x.flac"], "2": ["y.flac", "y.flac"]}  # the same file twice is one utterance
    (tmp_path / "train.json").write_text(json.dumps(index))
    with caplog.at_level(logging.WARNING):
        assert read_speakers(tmp_path / "train.json").keys() == INDEX.keys()
    assert "2 of 4 speakers left out" in caplog.text


def test_written_and_read_back(tmp_path) -> None:
    write_speakers(tmp_path / "deep/train.json", {s: [tmp_path / "deep" / p for p in v] for s, v in INDEX.items()})
    assert json.loads((tmp_path / "deep/train.json").read_text()) == INDEX
    assert read_speakers(tmp_path / "deep/train.json")["19"] == [tmp_path / "deep/a/1.flac", tmp_path / "deep/a/2.flac"]


@pytest.mark.parametrize("content", ["[]", '{"a": "path"}', '{"a": [1]}', "{", "{}", '{"a": ["x", "y"]}'])
def test_anything_else_is_refused(tmp_path, content: str) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(ValueError, match="train.json"):
        read_speakers(tmp_path / "train.json")


def test_an_index_that_carries_code_is_refused_and_nothing_runs(tmp_path) -> None:
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"19": Payload()}, tmp_path / "train.pt")
    with pytest.raises(ValueError, match="train.pt"):
        read_speakers(tmp_path / "train.pt")
    with pytest.raises(FileNotFoundError, match="none.pt"):
        read_speakers(tmp_path / "none.pt")
    assert not (tmp_path / "ran").exists()


def test_an_index_with_a_byte_order_mark_is_read_and_another_encoding_refused(tmp_path) -> None:
    path = tmp_path / "train.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(INDEX).encode())
    assert read_speakers(path).keys() == INDEX.keys()
    path.write_bytes('{"a": ["ü.wav",\n "ü2.wav"]}'.encode("latin1"))
    with pytest.raises(ValueError, match="train.json, line 1: not UTF-8"):
        read_speakers(path)
    with pytest.raises(IsADirectoryError, match="is a folder, not a speaker index"):
        read_speakers(tmp_path)


@pytest.mark.parametrize("form", ["pt", "json"])
@pytest.mark.parametrize("entry", ["cat x.wav |", "~/x.wav", "$X/x.wav", "a.ark:12", "", "a\0b"])
def test_entries_of_an_index_that_are_no_paths_are_named(tmp_path, form: str, entry: str) -> None:
    path = tmp_path / f"train.{form}"
    index = {**INDEX, "7": ["x.wav", entry]}
    torch.save(index, path) if form == "pt" else path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match="1 entries cannot be used:\n.* of speaker 7: "):
        read_speakers(path)


def test_a_speaker_twice_is_refused_and_a_file_of_two_speakers_said(tmp_path, caplog) -> None:
    path = tmp_path / "train.json"
    path.write_text('{"a": ["1.wav", "2.wav"], "b": ["3.wav", "4.wav"], "a": ["5.wav", "6.wav"]}')
    with pytest.raises(ValueError, match="names a more than once"):
        read_speakers(path)
    path.write_text('{"a": ["1.wav", "2.wav"], "b": ["2.wav", "4.wav"]}')
    read_speakers(path)
    assert "1 files belong to several speakers: 2.wav" in caplog.text


def test_an_index_that_is_nested_without_end_is_no_json(tmp_path) -> None:
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="x.json is not valid JSON"):
        read_index(tmp_path / "x.json")
