from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.toy import ROOT
from utils.array_cache import ArrayCache

ARRAY = np.arange(600, dtype=np.int64).reshape(200, 3)


def test_what_is_kept_comes_back(tmp_path) -> None:
    folder = tmp_path / "made" / "on demand"
    cache = ArrayCache(folder)
    assert cache.read("a", (200, 3)) is None
    cache.write("a", ARRAY)
    for again in (cache, ArrayCache(folder)):
        found = again.read("a", (200, 3))
        assert found.dtype == np.int32 and np.array_equal(found, ARRAY)
    assert cache.read("b", (200, 3)) is None
    assert os.listdir(folder) == ["a.npz"]


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    middle = len(whole) // 2
    if how == "pickle":
        np.savez(path, array=np.array([{"no": "tokens"}], dtype=object))
    elif how == "other type":
        np.savez(path, array=ARRAY.astype(np.float32))
    elif how == "other name":
        np.savez(path, tokens=ARRAY.astype(np.int32))
    elif how == "plain array":
        with open(path, "wb") as file:
            np.save(file, ARRAY.astype(np.int32))
    else:
        broken = {
            "empty": b"",
            "truncated": whole[:middle],
            "one bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "text": b"not an array\n",
        }
        path.write_bytes(broken[how])


@pytest.mark.parametrize(
    "how", ["empty", "truncated", "one bit", "text", "pickle", "other type", "other name", "plain array"]
)
def test_a_broken_file_is_told_and_counts_as_missing(tmp_path, caplog, how: str) -> None:
    """A zip cut in two raises BadZipFile, which is neither a ValueError nor an OSError."""
    cache = ArrayCache(tmp_path)
    cache.write("a", ARRAY)
    damage(cache.path("a"), how)
    assert cache.read("a", (200, 3)) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING" and str(cache.path("a")) in record.getMessage()
    cache.write("a", ARRAY)
    assert np.array_equal(cache.read("a", (200, 3)), ARRAY) and len(caplog.records) == 1


def test_another_shape_counts_as_broken(tmp_path, caplog) -> None:
    cache = ArrayCache(tmp_path)
    cache.write("a", ARRAY)
    assert cache.read("a", (3, 200)) is None
    assert "holds int32 (200, 3), not int32 (3, 200)" in caplog.text


def test_where_nothing_can_be_written_is_said_at_once(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(OSError):
            ArrayCache(folder)


def test_a_write_that_fails_later_is_told_once(tmp_path, caplog) -> None:
    cache = ArrayCache(tmp_path / "folder")
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").write_text("somebody else's")
    cache.write("a", ARRAY)
    cache.write("b", ARRAY)
    (record,) = caplog.records
    assert f"{tmp_path}/folder/a.npz cannot be written" in record.getMessage()


def test_a_folder_that_is_cleared_meanwhile_is_made_again(tmp_path, caplog) -> None:
    cache = ArrayCache(tmp_path / "folder")
    (tmp_path / "folder").rmdir()
    cache.write("a", ARRAY)
    assert cache.read("a", (200, 3)) is not None and not caplog.records


@pytest.mark.slow
def test_processes_may_write_and_read_the_same_key_at_once(tmp_path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from utils.array_cache import ArrayCache\n"
        "cache, array = ArrayCache(sys.argv[1]), np.arange(30000, dtype=np.int32)\n"
        "for _ in range(100):\n"
        "    cache.write('a', array)\n"
        "    assert np.array_equal(cache.read('a', array.shape), array)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0 and stderr == ""
    assert os.listdir(tmp_path) == ["a.npz"]
