"""Text files and arrays: whole or not there."""

from __future__ import annotations

import fcntl
import os
import time

import numpy as np
import pytest

from utils import files
from utils.files import file_digest, read_arrays, whole_file, write_arrays, write_json, write_text


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


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    """Checkpoints had a fixed temporary name: two runs wrote into one file."""
    path = tmp_path / "last.pth"
    with whole_file(path) as first:
        with whole_file(path) as second:
            assert first != second and first.suffix == second.suffix == ".pth" and first.parent == tmp_path
            first.write_text("one")
            second.write_text("two")
        assert path.read_text() == "two"
    assert path.read_text() == "one" and os.listdir(tmp_path) == ["last.pth"]


def test_names_of_any_length_and_ending(tmp_path):
    for name in ("a" * 255, "a." + "b" * 253, ".hidden", "é" * 127):
        with whole_file(tmp_path / name) as temporary:
            temporary.write_text(name)
        assert (tmp_path / name).read_text() == name


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_leftovers_of_killed_runs_are_removed(tmp_path, monkeypatch):
    names = [f".partial-{i:016x}.pth" for i in range(4)] + [".partial-of-mine"]
    for name in names:
        (tmp_path / name).write_text("half")
    old = time.time() - 2 * files.STALE
    for name in (names[0], names[1], names[4]):
        os.utime(tmp_path / name, (old, old))
    monkeypatch.setattr(files, "_swept", set())
    with open(tmp_path / names[1]) as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as the one who writes it does
        write_text(tmp_path / "last.pth", "whole")
    assert sorted(os.listdir(tmp_path)) == sorted([*names[1:], "last.pth"])


def test_what_is_being_written_is_not_taken_for_a_leftover(tmp_path, monkeypatch):
    with whole_file(tmp_path / "a") as temporary:
        temporary.write_text("half")
        os.utime(temporary, (0, 0))
        monkeypatch.setattr(files, "_swept", set())
        write_text(tmp_path / "b", "whole")
        assert temporary.exists()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_digest(tmp_path):
    (tmp_path / "a").write_text("abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_folder_that_cannot_be_written_is_told_early(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place, why in (("file", "no folder"), ("file/deep", "no folder"), ("link", "a link to .*nowhere")):
        with pytest.raises(ValueError, match=f"nothing can be written to .*{place}: .* is {why}"):
            files.require_writable_folder(tmp_path / place)
    files.require_writable_folder(tmp_path / "new/deep")
    assert not (tmp_path / "new").exists()


def test_a_read_only_folder_is_told_early(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="is read-only"):
        files.require_writable_folder(tmp_path / "new")


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, no_room):
    for write in (lambda path: write_text(path, "x" * 9000), lambda path: files.write_array(path, np.zeros(9000))):
        with no_room(1000), pytest.raises(OSError, match="x.out"):
            write(tmp_path / "x.out")
    assert not list(tmp_path.iterdir())


def test_what_another_file_is_at_fault_for_is_not_said_of_this_one(tmp_path):
    with pytest.raises(FileNotFoundError) as error, whole_file(tmp_path / "x"):
        open(tmp_path / "other")
    assert "other" in str(error.value) and "cannot write" not in str(error.value)
