"""The one folder that a server of the page keeps files in, which is gone when the server is, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "speech-page-"
_LOCK = ".in-use"
# Waits until whoever holds the other end of its input is gone, after a kill too, and then removes the folder.
_SWEEPER = "import shutil, sys; sys.stdin.buffer.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"

_sweepers: list[subprocess.Popen] = []


@contextlib.contextmanager
def kept_while_running(parent: str | os.PathLike | None = None) -> Iterator[Path]:
    """A new folder, for this user alone, that is removed when the context ends or the process is killed.

    A process beside this one removes it, since nothing runs in one that is killed. What a machine that lost its power
    has left is removed by the next start.

    Args:
        parent: where it is made; None: where temporary files go.
    """
    parent = Path(tempfile.gettempdir() if parent is None else parent)
    sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    held = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    sweeper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _SWEEPER, str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the server alone
        cwd="/",
    )
    _sweepers.append(sweeper)  # its input closes with this process, after which nothing can be written any more
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def sweep(parent: Path) -> None:
    """Remove the folders of this user whose servers are gone."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:  # of another user, gone by now, or not locked yet
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # its server runs
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
