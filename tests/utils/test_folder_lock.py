"""One process to a folder."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from utils.folder_lock import folder_lock


def test_a_second_one_is_refused_and_told_who_has_it(tmp_path) -> None:
    """Two trainings wrote into one checkpoint folder."""
    with folder_lock(tmp_path / "ckpt"):
        with pytest.raises(ValueError, match=f"in use by process {os.getpid()} on {socket.gethostname()}"):
            with folder_lock(tmp_path / "ckpt"):
                pass
        assert os.listdir(tmp_path / "ckpt") == [".lock"]
    assert os.listdir(tmp_path / "ckpt") == []
    with folder_lock(tmp_path / "ckpt"):
        pass


def test_a_forked_child_that_outlives_its_parent_does_not_keep_it(tmp_path) -> None:
    """As a loader does whose training process was killed."""
    reader, writer = os.pipe()
    owner = os.fork()
    if owner == 0:
        with folder_lock(tmp_path):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            os.write(writer, str(child).encode())
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(owner, 0)
    child = int(os.read(reader, 100))
    os.close(reader), os.close(writer)
    try:
        with folder_lock(tmp_path):  # .lock is still there
            pass
    finally:
        os.kill(child, signal.SIGKILL)
    assert os.listdir(tmp_path) == []


def test_a_file_in_its_place_is_refused(tmp_path) -> None:
    (tmp_path / "ckpt").touch()
    for folder in (tmp_path / "ckpt", tmp_path / "ckpt/below"):
        with pytest.raises(ValueError, match="ckpt.* is not a folder that can be written"):
            with folder_lock(folder):
                pass


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # whoever runs the tests may be allowed everything
    with pytest.raises(ValueError, match="is not a folder that can be written: it is read-only"):
        with folder_lock(tmp_path):
            pass
