"""Unpacking archives: all or nothing, and nothing outside the folder."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

import pytest

from data.prepare.archives import BrokenArchive, unpack
from tests.data.prepare.file_server import archive

FILES = {"ckpt/a_L1.pt": b"1", "ckpt/a_L3.pt": b"3", "ckpt/b/c": b""}


@pytest.fixture
def found(tmp_path) -> Path:
    """Where an archive lies."""
    (tmp_path / "archives").mkdir()
    return tmp_path / "archives" / "found.tar.gz"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_archive_of_one_folder_becomes_that_folder(found, tmp_path):
    found.write_bytes(archive(FILES))
    unpack(found, tmp_path / "out", digest="one")
    assert (tmp_path / "out" / "a_L3.pt").read_bytes() == b"3"
    assert files(tmp_path / "out") == [".unpacked-from.sha256", "a_L1.pt", "a_L3.pt", "b/c"]
    assert (tmp_path / "out").stat().st_mode & 0o055 == 0o055 & ~current_umask()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives", "out"]


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_archive_of_several_things_is_put_into_the_folder(found, tmp_path):
    found.write_bytes(archive({"readme": b"", **FILES}))
    unpack(found, tmp_path / "out", digest="one")
    assert files(tmp_path / "out") == [".unpacked-from.sha256", *sorted(FILES), "readme"]


def test_a_folder_is_unpacked_once_and_none_of_another_archive_replaced(found, tmp_path):
    found.write_bytes(archive(FILES))
    unpack(found, tmp_path / "out", digest="one")
    (tmp_path / "out" / "a_L1.pt").write_bytes(b"mine")
    unpack(found, tmp_path / "out", digest="one")
    assert (tmp_path / "out" / "a_L1.pt").read_bytes() == b"mine"
    (tmp_path / "by hand").mkdir()
    for folder, digest in (("out", "two"), ("by hand", "one")):
        with pytest.raises(ValueError, match="was not unpacked from") as error:
            unpack(found, tmp_path / folder, digest=digest)
        assert not isinstance(error.value, BrokenArchive)


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


OUTSIDE = {
    "parent": archive({"../evil": b""}),
    "parent further in": archive({"ckpt/../../evil": b""}),
    "absolute": archive({"/tmp/evil-of-a-test": b""}),
    "link to a parent": archive({}, member("link", tarfile.SYMTYPE, "../..")),
    "absolute link": archive({}, member("link", tarfile.SYMTYPE, "/etc")),
    "link inside": archive({"a": b""}, member("link", tarfile.SYMTYPE, "a")),
    "hard link": archive({}, member("link", tarfile.LNKTYPE, "../../found.tar.gz")),
    "pipe": archive({}, member("pipe", tarfile.FIFOTYPE)),
    "block device": archive({}, member("disk", tarfile.BLKTYPE)),
    "character device": archive({}, member("terminal", tarfile.CHRTYPE)),
}


@pytest.mark.parametrize("evil", OUTSIDE.values(), ids=OUTSIDE)
def test_archive_that_leaves_its_folder_is_refused(found, tmp_path, evil):
    found.write_bytes(evil)
    with pytest.raises(BrokenArchive, match="is refused") as error:
        unpack(found, tmp_path / "out", digest="one")
    assert str(found) in str(error.value) and str(tmp_path / "out") in str(error.value)
    assert list(tmp_path.rglob("*")) == [found.parent, found]
    assert not Path("/tmp/evil-of-a-test").exists()


def broken_archives() -> dict[str, bytes]:
    whole = archive({"ckpt/a_L1.pt": os.urandom(100_000)})
    checksum = bytearray(whole)
    checksum[-8] ^= 1
    inside = bytearray(whole)
    inside[50_000] ^= 255
    return {
        "cut": whole[:50_000],
        "checksum": bytes(checksum),
        "inside": bytes(inside),
        "no gzip": b"hello",
        "no tar": gzip.compress(b"hello" * 1000),
        "empty": b"",
    }


@pytest.mark.parametrize("kind", list(broken_archives()))
def test_broken_archive_leaves_nothing(found, tmp_path, kind):
    found.write_bytes(broken_archives()[kind])
    with pytest.raises(BrokenArchive, match="is broken .* delete it") as error:
        unpack(found, tmp_path / "out", digest="one")
    assert str(found) in str(error.value)
    assert list(tmp_path.rglob("*")) == [found.parent, found]


def test_what_a_killed_run_left_is_cleared(found, tmp_path):
    (tmp_path / ".out.unpacking" / "half").mkdir(parents=True)
    found.write_bytes(archive(FILES))
    unpack(found, tmp_path / "out", digest="one")
    assert not (tmp_path / ".out.unpacking").exists() and not (tmp_path / "out" / "half").exists()
