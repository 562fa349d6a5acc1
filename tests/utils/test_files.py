"""Text files and arrays: whole or not there."""

from __future__ import annotations

import os

import numpy as np
import pytest

from utils.files import read_arrays, write_arrays, write_json, write_text


def test_folders_are_made_and_a_file_is_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    for text in ("één\n", "two"):
        write_text(path, text)
        assert path.read_bytes() == text.encode()
    write_json(path, {"z": [1], "a": None})
    assert path.read_text() == '{\n "z": [\n  1\n ],\n "a": null\n}\n'
    assert os.listdir(path.parent) == ["c.txt"]


def test_a_failure_keeps_the_old_and_leaves_nothing(tmp_path):
    write_text(tmp_path / "list", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "list", "new \ud800")
    assert os.listdir(tmp_path) == ["list"] and (tmp_path / "list").read_text() == "old"


def test_arrays_come_back_and_broken_ones_are_a_value_error(tmp_path):
    path = tmp_path / "tokens.npz"
    write_arrays(path, {"a": np.arange(1000), "key": np.array("text")})
    back = read_arrays(path)
    assert list(back) == ["a", "key"] and np.array_equal(back["a"], np.arange(1000)) and str(back["key"]) == "text"
    whole = path.read_bytes()
    for broken in (whole[:-30], whole[:40], b"", b"no zip", whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"tokens\.npz cannot be read as arrays"):
            read_arrays(path)
    np.savez(path, a=np.array([object()]))
    with pytest.raises(ValueError, match="cannot be read as arrays"):
        read_arrays(path)
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "nothing.npz")
