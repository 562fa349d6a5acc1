"""Voiceprints: the vectors of speakers' voices, one in a ``.npy`` file, or many in a pickled dict."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from data import arrays
from utils.safe_joblib import load_joblib
from utils.safe_load import UnsafeFile


def require_voiceprint(values: np.ndarray, size: int, source: str) -> np.ndarray:
    """A voiceprint [D] or [1, D] as [D] float32.

    Raises:
        ValueError: another shape than ``size`` numbers, or values that are not finite; it names ``source``.
    """
    if values.dtype.kind != "f" or values.ndim not in (1, 2) or values.size != values.shape[-1]:
        raise ValueError(f"{source} is no voiceprint: [D] or [1, D] of floats is, this is {_form(values)}")
    if values.size != size:
        raise ValueError(f"{source} has {values.size} numbers, voiceprint_dim is {size}")
    values = values.reshape(-1).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{source} holds values that are not finite (NaN or infinite)")
    return values


def read_voiceprint(path: str | os.PathLike, size: int) -> np.ndarray:
    """The voiceprint of a ``.npy`` file: [size] float32. Raises as ``data.arrays.read`` and ``require_voiceprint``."""
    return require_voiceprint(arrays.read(path), size, os.fspath(path))


class VoiceprintStore:
    """The voiceprints of many utterances under their keys.

    Args:
        path: a pickled dict of key -> float array, read without running anything in it; or a folder of ``KEY.npy``.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: the pickle is broken, asks for code, or holds anything but texts, dicts and float arrays.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        self._found: dict[str, np.ndarray] | None = None
        if not os.path.isdir(path):
            self._found = _load_pickle(path)

    def reference(self, key: str) -> str | None:
        """What stands for a voiceprint in lists: a file, or ``PICKLE[KEY]``. None: there is none of this key."""
        if self._found is not None:
            return f"{self.path}[{key}]" if key in self._found else None
        names = (f"{key}.npy", f"{os.path.splitext(key)[0]}.npy")  # the published keys end in .wav
        return next((str(file) for file in (Path(self.path, name) for name in names) if file.is_file()), None)

    def holds(self, reference: str) -> bool:
        """Whether it is a ``PICKLE[KEY]`` of this store."""
        return self._found is not None and reference.startswith(f"{self.path}[") and reference.endswith("]")

    def read(self, reference: str, size: int) -> np.ndarray:
        """[size] float32. Raises as ``require_voiceprint``; a key that is not there is a ValueError too."""
        if not self.holds(reference):
            return read_voiceprint(reference, size)
        key = reference[len(self.path) + 1 : -1]
        if key not in self._found:
            raise ValueError(f"{self.path} has no voiceprint of {key}")
        return require_voiceprint(self._found[key], size, reference)


def _load_pickle(path: str | os.PathLike) -> dict[str, np.ndarray]:
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such file or folder of voiceprints: {path} (voiceprint_path)")
    found = load_joblib(path, what="pickled dict of voiceprints")
    if type(found) is not dict:
        raise UnsafeFile(f"{path} holds a {_kind(found)}, where a dict of voiceprints is expected")
    for key, value in found.items():
        if type(key) is not str or type(value) is not np.ndarray or value.dtype.kind != "f":
            raise UnsafeFile(
                f"{path} holds under {ascii(key)[:50]} a {_kind(value)}; only float arrays under texts are read"
            )
    return found


def _kind(value: object) -> str:
    return _form(value) if isinstance(value, np.ndarray) else getattr(value, "name", type(value).__name__)


def _form(values: np.ndarray) -> str:
    return f"{values.dtype} {list(values.shape)}"
