"""A folder of token files as one flat array, which all loader processes share."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data import arrays
from utils.errors import describe
from utils.files import whole_file

TOKENS_RECORD = "tokens.json"
# of a record: what tells of the run that made the tokens, not of the tokens
_OF_THE_RUN = ("job", "recipe", "by", "settings", "checkpoint", "sha256")
log = logging.getLogger(__name__)


class TokenCorpus:
    """The token files under a folder, in the order of their paths.

    What was read is kept in ``FOLDER/.corpus``, mapped from there by all processes, and made anew when a file has
    another size or time. Where the folder cannot be written, it is kept in memory, which forked processes share.

    Args:
        folder: of ``NAME.npy``, integers [N] or [N, 1], in any depth.
        vocab_size: V; tokens are in [0, V).

    Attributes:
        names: of the files, relative to the folder, without ``.npy``.
        offsets: [files + 1] int64; file i has ``tokens[offsets[i]:offsets[i + 1]]``.
        tokens: all of them, uint16 or uint32.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no such files; or one is broken, empty, or holds something else. It is named.
    """

    def __init__(self, folder: str | os.PathLike, *, vocab_size: int):
        self.folder = Path(folder)
        self.vocab_size = vocab_size
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no such folder of tokens: {self.folder}")
        found = sorted(_files(self.folder))
        if not found:
            raise ValueError(f"{self.folder} holds no .npy files of tokens")
        self.names = [name.removesuffix(".npy") for name, _, _ in found]
        self._dtype = np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
        key = hashlib.sha256(json.dumps([vocab_size, found]).encode()).hexdigest()[:16]
        self.offsets, self.tokens = self._kept(key) or self._read(key)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, place: int) -> Path:
        """Of a file."""
        return self.folder / f"{self.names[place]}.npy"

    def __getitem__(self, place: int) -> np.ndarray:
        """The tokens of a file, [N] int64."""
        return self.tokens[self.offsets[place] : self.offsets[place + 1]].astype(np.int64)

    def _kept(self, key: str) -> tuple[np.ndarray, np.ndarray] | None:
        offsets, tokens = self._paths(key)
        try:
            if not (offsets.is_file() and tokens.is_file()):
                return None
            found = np.fromfile(offsets, dtype=np.int64)
            flat = np.memmap(tokens, dtype=self._dtype, mode="r")
        except (OSError, ValueError) as error:
            log.warning("%s is made anew: %s", tokens, describe(error))
            return None
        return (found, flat) if len(found) == len(self) + 1 and found[-1] == len(flat) else None

    def _read(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        parts = [self._file(self.folder / f"{name}.npy") for name in self.names]
        offsets = np.r_[0, np.cumsum([len(part) for part in parts], dtype=np.int64)]
        flat = np.concatenate(parts)
        try:
            for path, array in zip(self._paths(key), (offsets, flat), strict=True):
                with whole_file(path) as temporary:
                    array.tofile(temporary)
        except OSError as error:
            log.info("%s is read anew at each start: %s", self.folder, describe(error))
            return offsets, flat
        self._remove_others(key)
        return self._kept(key) or (offsets, flat)

    def _file(self, path: Path) -> np.ndarray:
        array = arrays.read_tokens(path)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1 or not len(array):
            raise ValueError(f"{path} holds an array {list(array.shape)}; tokens are [N] or [N, 1], N above 0")
        if array.min() < 0 or array.max() >= self.vocab_size:
            raise ValueError(f"{path} holds tokens from {array.min()} to {array.max()}, outside [0, {self.vocab_size})")
        return array.astype(self._dtype)

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self.folder / ".corpus" / f"{key}.offsets", self.folder / ".corpus" / f"{key}.tokens"

    def _remove_others(self, key: str) -> None:
        """What was kept of the folder as it was before. Whoever has it mapped keeps it."""
        for path in (self.folder / ".corpus").glob("*.*"):
            if path.suffix in (".offsets", ".tokens") and path.stem != key:
                path.unlink(missing_ok=True)


def provenance(folder: str | os.PathLike) -> dict[str, Any]:
    """What the record of a folder of tokens says they are: digests and settings of what made them; else nothing.

    Raises:
        ValueError: the record is no JSON object.
    """
    path = Path(folder) / TOKENS_RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} must hold an object, got {type(record).__name__}")
    return {key: value for key, value in record.items() if key not in _OF_THE_RUN}


def shared_provenance(folders: Mapping[str, tuple[str | os.PathLike, str | os.PathLike]]) -> dict[str, Any]:
    """Of pairs of folders, for training and for validation, what both say.

    Args:
        folders: what they hold -> the two folders.

    Returns:
        What they hold -> the record of the first one, where it has one.

    Raises:
        ValueError: the two say different things; the first difference of each is told with both values.
    """
    found = {}
    for what, (one, other) in folders.items():
        here, there = provenance(one), provenance(other)
        differing = [key for key in here if key in there and here[key] != there[key]]
        if differing:
            told = "; ".join(f"{key} is {here[key]} and {there[key]}" for key in differing)
            raise ValueError(f"the {what} of {one} and {other} were made with different settings: {told}")
        if here or there:
            found[what] = here or there
    return found


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    """(path relative to the folder, bytes, time of the last change) of each .npy file; not in hidden folders."""
    waiting = [(folder, "")]
    while waiting:
        where, prefix = waiting.pop()
        with os.scandir(where) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    waiting.append((Path(entry.path), f"{prefix}{entry.name}/"))
                elif entry.name.endswith(".npy"):
                    status = entry.stat()
                    yield f"{prefix}{entry.name}", status.st_size, status.st_mtime_ns
