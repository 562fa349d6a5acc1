"""One call of a reader, in a process whose time and memory are watched."""

from __future__ import annotations

import importlib
import json
import resource
import time
from pathlib import Path

from tests.torture.programs import forked

SECONDS = 30.0  # that a reader may take, on a machine that does other things too
MEMORY = 400 << 20  # bytes that it may take beside what its process has
ADDRESSES = 24 << 30  # that may be asked for: more is refused by the system, as on a machine without so much


def look(reader: str, path: Path, result: Path) -> str | None:
    """What is wrong with how a reader takes a file: None if it reads it, or refuses it by name, and soon."""
    result.unlink(missing_ok=True)
    process = forked(_read, reader, str(path), str(result))
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        return f"no end in {SECONDS:g} s"
    if process.exitcode or not result.exists():
        return f"its process ended with exit status {process.exitcode}"
    found = json.loads(result.read_text())
    if found["memory"] > MEMORY:
        return f"it took {found['memory'] >> 20} MB"
    if found["error"] is None:
        return None
    if found["error"] not in ("ValueError", "UnsafeFile", "FileNotFoundError", "IsADirectoryError", "OSError"):
        return f"{found['error']}: {found['said']}"
    return None if path.name in found["said"] else f"the error does not name the file: {found['said']}"


def _read(reader: str, path: str, result: str) -> None:
    module, _, name = reader.rpartition(".")
    read = getattr(importlib.import_module(module), name)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    before, since = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    error, said = None, ""
    try:
        read(Path(path))
    except Exception as problem:
        error, said = type(problem).__name__, str(problem)[:500]
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    seconds = time.monotonic() - since
    Path(result).write_text(json.dumps({"error": error, "said": said, "memory": memory, "seconds": seconds}))
