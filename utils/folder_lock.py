"""A folder that one process writes into: a second one is refused, and told who the first is."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from utils.errors import describe

_held: set[int] = set()


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike, *, name: str = ".lock") -> Iterator[None]:
    """Hold a folder, which is made if needed, for this process alone.

    The lock ends with the process, however it ends. The file of this name says who holds it.

    Raises:
        ValueError: another process holds it (which, and on what machine), or nothing can be written there.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError("it is read-only")
        held = _take(folder / name)
    except OSError as error:
        raise ValueError(f"{folder} is not a folder that can be written: {error.strerror or describe(error)}") from None
    try:
        yield
    finally:
        (folder / name).unlink(missing_ok=True)  # while it is locked, so that nobody takes it in between
        _held.discard(held)
        os.close(held)


def _take(path: Path) -> int:
    _close_in_forks()
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(file, 500, 0).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise ValueError(
                f"{path.parent} is in use by {owner}: wait for it, end it, or name another folder"
            ) from None
        except OSError:  # a disk that knows no locks: go on without
            pass
        if os.fstat(file).st_nlink:
            break
        os.close(file)  # who held it has just let it go, and its file with it
    os.ftruncate(file, 0)
    os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    _held.add(file)
    return file


@functools.cache
def _close_in_forks() -> None:
    """A loader that was forked must not keep the lock when the training process was killed."""
    os.register_at_fork(after_in_child=lambda: [os.close(file) for file in _held])
