"""What tests ask of processes that they, or what they test, have started."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def wait_for(happened: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is so. Raises AssertionError if it never is."""
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """It runs; a process that has ended and was not yet asked about is none."""
    return _state(pid) not in (None, "Z")


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    below = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if (facts := _facts(int(entry.name))) is not None:
            below.setdefault(int(facts[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found += (new := below.get(todo.pop(), []))
        todo += new
    return found


def _facts(pid: int) -> list[str] | None:
    """State, parent and more, of /proc/PID/stat."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _state(pid: int) -> str | None:
    facts = _facts(pid)
    return None if facts is None else facts[0]
