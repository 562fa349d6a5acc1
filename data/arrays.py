"""Arrays in .npy files, read as data and never as objects."""

from __future__ import annotations

import functools
import io
import math
import os

import numpy as np

_SMALL = 1 << 20  # bytes


def rows(path: str | os.PathLike) -> int:
    """The length of the first axis, from the header alone; the errors are those of ``read``."""
    return len(_open(path))


def read(path: str | os.PathLike) -> np.ndarray:
    """A whole array.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no .npy file, is cut off, holds objects, has no axis, or values that are not finite.
    """
    if not os.path.isfile(path):  # to open a pipe would wait for who writes to it
        raise FileNotFoundError(f"no such array file: {path}")
    array = _small(path)
    if array is None:
        array = np.array(_open(path))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{path} holds values that are not finite (NaN or infinite)")
    return array


def read_tokens(path: str | os.PathLike) -> np.ndarray:
    """A whole array of integers, as ``read``; another kind of number is a ValueError."""
    array = read(path)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{path} holds {array.dtype} values; tokens are integers")
    return array


def _small(path: str | os.PathLike) -> np.ndarray | None:
    """An array of the usual form, by reading its file once: folders hold a hundred thousand of them.

    Returns:
        None of any other file, about which ``_open`` says what is wrong, if anything is.
    """
    try:
        with open(path, "rb") as file:
            begin = file.read(10)
            if begin[:8] != b"\x93NUMPY\x01\x00" or len(begin) < 10:
                return None
            found = _header(begin[8:] + file.read(int.from_bytes(begin[8:], "little")))
            if found is None:
                return None
            shape, dtype = found
            content = file.read(dtype.itemsize * math.prod(shape))
    except OSError:
        return None
    if len(content) < dtype.itemsize * math.prod(shape):
        return None
    return np.frombuffer(content, dtype=dtype).reshape(shape).copy()


@functools.lru_cache(maxsize=4096)  # most files of a folder have one of a few
def _header(text: bytes) -> tuple[tuple[int, ...], np.dtype] | None:
    """Shape and kind of an array of numbers, from its header of version 1; None of others, and of large ones."""
    try:
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(text))
    except ValueError:
        return None
    is_plain = 0 < len(shape) <= 8 and all(type(size) is int and size >= 0 for size in shape) and dtype.kind in "iuf"
    is_plain = is_plain and not (by_columns and len(shape) > 1)
    is_plain = is_plain and dtype.itemsize * math.prod(size or 1 for size in shape) <= _SMALL
    return (shape, dtype) if is_plain else None


def _open(path: str | os.PathLike) -> np.ndarray:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no such array file: {path}")
    with open(path, "rb") as file:  # of anything else NumPy says how to load it unsafely
        if file.read(6) != b"\x93NUMPY":
            raise ValueError(f"{path} is no .npy file, by its first bytes")
    try:
        with np.errstate(over="ignore"):  # a shape that no file can hold is refused as longer than the file
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a broken file raises almost anything: ValueError, EOFError, SyntaxError ...
        said = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"cannot read {path} as an array of numbers ({said}); .npy files are read") from error
    if array.ndim == 0 or array.dtype.kind not in "iufb":
        raise ValueError(f"{path} holds no array of numbers")
    return array
