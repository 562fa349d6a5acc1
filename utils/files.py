"""Files that are whole whenever they have their name, what tells two apart, and the paths written into them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from utils.errors import describe

# Seconds that a temporary file without an owner must have lain untouched, before it counts as left by a killed run.
STALE = 600.0
_UNFOLDED = 1 << 26  # bytes that any packed file of arrays may unfold to
_TEMPORARY = re.compile(r"\.partial-[0-9a-f]{16}(\..*)?")
_swept: set[tuple[int, int]] = set()  # folders (device, inode) in which this process has looked for such files


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path to write to, in the folder of ``path``, which is made if needed.

    When the context ends, what was written is synced to disk and gets its name; whatever happens meanwhile, the file
    of this name is a whole one, the old or the new. If the context ends by an error, nothing stays. The temporary name
    is random, so that processes and machines which share a disk do not meet in it, and ends as ``path`` does, since
    libraries look at that. What killed runs left in the folder is removed.

    Raises:
        OSError: the folder cannot be written, or its disk is full; it names ``path``.
    """
    path = Path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        temporary, held = _new_temporary(path)
    try:
        with naming(path, temporary):
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)  # the new name must survive a power cut too
    finally:
        temporary.unlink(missing_ok=True)
        os.close(held)


def text_digest(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def require_writable_folder(path: str | os.PathLike) -> None:
    """Tell early whether files can be made in a folder, which need not be there yet.

    Raises:
        ValueError: it, or what is to hold it, is no folder, or cannot be written.
    """
    place = Path(path).absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        what = f"a link to {os.readlink(place)}, which is not there" if not place.exists() else "no folder"
        raise ValueError(f"nothing can be written to {path}: {place} is {what}; name another folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"nothing can be written to {path}: {place} is read-only; name another folder")


def require_file(path: str | os.PathLike, what: str = "file") -> None:
    """Refuse what is there and is no file on a disk: to open a pipe waits for who writes to it, perhaps for ever, and a
    device never ends.

    Raises:
        FileNotFoundError: it is not there, or is such a thing.
        IsADirectoryError: it is a folder.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise FileNotFoundError(f"no such {what}: {os.fspath(path)}") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{os.fspath(path)} is a folder, not a {what}")
    if not stat.S_ISREG(mode):
        raise FileNotFoundError(f"{os.fspath(path)} is no {what} on a disk, and is not read")


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write ``text`` in UTF-8."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_array(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write an array as a ``.npy`` file."""
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        try:
            np.save(file, array)
        except OSError as error:
            raise unwritten(path, error) from error


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as a compressed ``.npz`` file."""
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of a ``.npz`` file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken, holds objects, or unfolds to far more than its size.
    """
    require_file(path)
    with open(path, "rb") as file:  # opened here: of a broken zip, np.load leaves its own file open
        try:
            _require_bounded_zip(file)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except Exception as error:  # a broken file raises almost anything: BadZipFile, zlib.error, EOFError ...
            raise ValueError(f"{path} cannot be read as arrays ({describe(error)})") from error


def _require_bounded_zip(file: BinaryIO) -> None:
    """Raises a ValueError if the parts unfold to more than numbers are ever packed to, a hundredth, and 64 MiB."""
    with zipfile.ZipFile(file) as archive:
        unfolded = sum(part.file_size for part in archive.infolist())
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if unfolded > max(100 * size, _UNFOLDED):
        raise ValueError(f"its {size} bytes would unfold to {unfolded}")


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write ``value`` as indented JSON."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def readable(path: str | os.PathLike) -> None:
    """Let those read a file whom the umask lets read new ones. safetensors writes files for the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(path, 0o666 & ~umask)


def portable(path: str | os.PathLike, folder: str | os.PathLike) -> str:
    """``path`` relative to ``folder`` where it lies inside, so that both can be moved together; else absolute."""
    for settle in (os.path.abspath, os.path.realpath):  # either may have been reached through a link
        inside, outside = Path(settle(path)), Path(settle(folder))
        if inside.is_relative_to(outside):
            return str(inside.relative_to(outside))
    return os.path.abspath(path)


def unwritten(path: str | os.PathLike, error: Exception) -> OSError:
    """The error for a file that a library could not write, which says no more than that."""
    free = shutil.disk_usage(Path(path).parent).free
    return OSError(f"cannot write {path} ({error}); {free} bytes are free on its disk")


@contextlib.contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Name ``path`` in what the system says of the temporary file, or of no file."""
    try:
        yield
    except OSError as error:
        of_another = error.filename is not None and error.filename != str(temporary) and temporary is not None
        if error.errno is None or of_another:
            raise
        raise OSError(error.errno, f"cannot write it: {error.strerror}", str(path)) from error


def _new_temporary(path: Path) -> tuple[Path, int]:
    """An empty file beside ``path``, and the open descriptor that locks it while this process lives."""
    suffix = path.suffix if len(path.suffix) <= 16 else ""  # beyond, it is a name with a dot in it
    while True:
        temporary = path.with_name(f".partial-{secrets.token_hex(8)}{suffix}")
        held = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            if _locked(held) is not False and os.fstat(held).st_nlink:
                return temporary, held
        except BaseException:
            temporary.unlink(missing_ok=True)
            os.close(held)
            raise
        os.close(held)  # another process took it for a left one just now: it removes it


def _sweep(folder: Path) -> None:
    """Remove the temporary files that killed runs left in ``folder``; once for each process, as it takes a listing."""
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in _swept:
        return
    _swept.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        found = [entry.path for entry in entries if _TEMPORARY.fullmatch(entry.name)]
    for path in found:
        with contextlib.suppress(OSError):  # another process was faster, or it is someone else's
            if time.time() - os.stat(path).st_mtime < STALE:
                continue
            file = os.open(path, os.O_RDONLY)
            try:
                if _locked(file):
                    os.unlink(path)
            finally:
                os.close(file)


def _locked(file: int) -> bool | None:
    """Lock an open file for this process; False: another one holds it; None: this disk knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
