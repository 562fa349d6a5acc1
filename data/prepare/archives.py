"""Unpacking archives that come from elsewhere: all of one or nothing, and nothing outside its folder."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

_MARK = ".unpacked-from.sha256"  # in an unpacked folder: the digest of its archive


class BrokenArchive(ValueError):
    """An archive that cannot be unpacked, or must not be."""


def unpack(archive: Path, folder: Path, *, digest: str) -> None:
    """Unpack a .tar.gz as ``folder``, all of it or nothing; an archive of one folder becomes that folder.

    Links and devices, which speech and weights have no need of, and whatever would lie outside the folder are refused.

    Args:
        digest: the archive's SHA-256, noted in the folder so that the next run knows where it came from.

    Raises:
        BrokenArchive: the archive is broken or refused.
        ValueError: the folder is there but was not unpacked from this archive.
    """
    if folder.exists():
        mark = folder / _MARK
        if mark.exists() and mark.read_text().strip() == digest:
            return
        raise ValueError(f"{folder} is there but was not unpacked from {archive}: delete or move one of the two")
    if not hasattr(tarfile, "data_filter"):
        raise ValueError(f"Python 3.11.4 or later is needed to unpack safely: unpack {archive} yourself as {folder}")
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    temporary.mkdir()
    try:
        with gzip.open(archive) as raw:
            with tarfile.open(fileobj=raw, mode="r|") as tar:
                members = tqdm(tar, desc=f"unpacking {archive.name}", unit=" files", disable=None)
                tar.extractall(temporary, members=members, filter=_admit)
            while raw.read(1 << 20):  # up to the end, where gzip compares its checksum
                pass
        inside = list(temporary.iterdir())
        top = inside[0] if len(inside) == 1 and inside[0].is_dir() else temporary
        (top / _MARK).write_text(f"{digest}\n")
        os.rename(top, folder)
    except tarfile.FilterError as error:
        raise BrokenArchive(
            f"{archive} is refused: {error}. Only files and folders that stay in their folder are unpacked; if you "
            f"trust it, unpack it yourself as {folder} and delete the archive"
        ) from error
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BrokenArchive(f"{archive} is broken ({error}): delete it, and the next run fetches it again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _admit(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    # Stricter than tarfile's own filter, which takes the slash off an absolute name and lets links inside the folder
    # pass; several ways out of the folder that were found in that filter went through links.
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise tarfile.FilterError(f"{member.name!r} lies outside the folder")
    if not (member.isfile() or member.isdir()):
        raise tarfile.FilterError(f"{member.name!r} is a link or a device")
    return tarfile.data_filter(member, folder)
