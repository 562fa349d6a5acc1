"""Torch files that unfold to more than they hold: refused before torch builds anything, and without much memory."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
import torch

from utils import pickle_bounds
from utils.safe_load import UnsafeFile, load_torch


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def doubled(times: int) -> bytes:
    """A dict that holds one twice, which holds one twice, and so on."""
    step = b"}" + text("a") + b"h\0s" + text("b") + b"h\0sq\0"
    return b"}q\0" + step * times


NESTED = b")" + b"\x85" * 200_000
PICKLES = {
    "a bytearray of 2 GB": b"c__builtin__\nbytearray\nJ" + struct.pack("<i", 2**31 - 1) + b"\x85R",
    "a key so deep that hashing it ends the process": b"}" + NESTED + b"K\x01s",
    "dicts in dicts": (b"}" + text("a")) * 100_000 + b"}" + b"s" * 100_000,
    "lists in lists": b"]" * 100_000 + b"a" * 99_999,
    "a dict in itself": b"}q\0" + text("a") + b"h\0s",
    "a dict that doubles": doubled(60),
    "a tuple that doubles, as a key": b"})q\0" + b"h\0h\0\x86q\0" * 40 + b"K\x01s",
}


def write(path: Path, pickled: bytes, form: str) -> Path:
    pickled = b"\x80\x02" + pickled + b"."
    if form == "older":
        begin = [b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", b"M\xe9\x03", b"}"]
        path.write_bytes(b"".join(b"\x80\x02" + part + b"." for part in begin) + pickled)
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little"}.items():
            archive.writestr(f"x/{name}", content)
    return path


@pytest.mark.parametrize("form", ["zip", "older"])
@pytest.mark.parametrize("what", PICKLES)
def test_what_unfolds_to_more_than_a_checkpoint_is_refused(tmp_path, what: str, form: str) -> None:
    with pytest.raises(UnsafeFile, match=r"x.pt is not read: .*Nothing in it was run"):
        load_torch(write(tmp_path / "x.pt", PICKLES[what], form))


@pytest.mark.parametrize("form", ["zip", "older"])
def test_a_file_of_too_many_opcodes_is_refused(tmp_path, monkeypatch, form: str) -> None:
    monkeypatch.setattr(pickle_bounds, "MOST", 10_000)
    with pytest.raises(UnsafeFile, match=r"x.pt is not read: it has more than 10000 opcodes"):
        load_torch(write(tmp_path / "x.pt", b"}" + b"K\x010" * 5_001, form))


@pytest.mark.slow
def test_the_speaker_index_of_all_of_librispeech_is_read(tmp_path) -> None:
    """It was refused: 281,241 paths are more opcodes than any checkpoint has."""
    index = {str(s): [f"train/{s}/{u}/{s}-{u}-{u:04d}.flac" for u in range(121)] for s in range(2325)}
    torch.save(index, tmp_path / "index.pt")
    assert load_torch(tmp_path / "index.pt") == index


def test_compressed_parts_and_parts_that_overlap_are_refused(tmp_path) -> None:
    torch.save({"a": torch.zeros(300_000)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(UnsafeFile, match="compressed, which torch never does"):
        load_torch(tmp_path / "packed.pt")
    with zipfile.ZipFile(tmp_path / "twice.pt", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        (large,) = (part for part in archive.infolist() if part.file_size > 1_000_000)
        archive.filelist += [large] * 3  # further names for the same bytes
    with pytest.raises(UnsafeFile, match=r"its parts say that they are \d+ bytes, the file has"):
        load_torch(tmp_path / "twice.pt")


def test_a_tensor_that_repeats_few_values_is_refused_where_it_is_large(tmp_path) -> None:
    torch.save({"a": [{"b": torch.zeros(1).expand(2**20, 2**20)}]}, tmp_path / "x.pt")
    with pytest.raises(UnsafeFile, match=r"a tensor of \[1048576, 1048576\] repeats the 1 values"):
        load_torch(tmp_path / "x.pt")
    torch.save({"mask": torch.ones(1).expand(64, 64), "tied": [torch.zeros(2000, 1000)] * 2}, tmp_path / "y.pt")
    assert load_torch(tmp_path / "y.pt")["mask"].sum() == 4096
