"""Text files that are whole whenever they have their name, and the paths that are written into them."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write ``text`` in UTF-8 under a temporary name, and rename it when it is complete; make the folder if needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write ``value`` as indented JSON, as ``write_text`` does."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def portable(path: str | os.PathLike, folder: str | os.PathLike) -> str:
    """``path`` relative to ``folder`` where it lies inside, so that both can be moved together; else absolute."""
    for settle in (os.path.abspath, os.path.realpath):  # either may have been reached through a link
        inside, outside = Path(settle(path)), Path(settle(folder))
        if inside.is_relative_to(outside):
            return str(inside.relative_to(outside))
    return os.path.abspath(path)
