"""Text files: whole or not there."""

from __future__ import annotations

import os

import pytest

from utils.files import write_json, write_text


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
