"""Files that are whole whenever they have their name, and the paths that are written into them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from utils.errors import describe


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write ``text`` in UTF-8."""
    _write(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_array(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write an array as a ``.npy`` file."""

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.save(file, array)

    _write(Path(path), save)


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as a compressed ``.npz`` file."""

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    _write(Path(path), save)


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of a ``.npz`` file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken, or holds objects.
    """
    with open(path, "rb") as file:  # opened here: of a broken zip, np.load leaves its own file open
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except Exception as error:  # a broken file raises almost anything: BadZipFile, zlib.error, EOFError ...
            raise ValueError(f"{path} cannot be read as arrays ({describe(error)})") from error


def write_json(path: str | os.PathLike, value: object) -> None:
    """Write ``value`` as indented JSON."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write under a temporary name, and rename when it is complete; make the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two machines that share a disk can have the same process number.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
