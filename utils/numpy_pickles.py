"""torch-pickled dicts whose numbers are numpy's scalars, read without numpy's own unpickling."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from utils.safe_load import Inert, load_torch

_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_STAND_INS = (*_SCALARS, "numpy.dtype")
_PLAIN = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


def load_torch_numbers(path: str | os.PathLike) -> Any:
    """A torch file of dicts, lists and numbers, numpy's scalars as Python's.

    Raises:
        OSError: there is no such file.
        ValueError: it is broken, asks for code, or holds numbers of another kind.
    """
    return _plain(load_torch(path, stand_ins=_STAND_INS), path)


def _plain(value: Any, path: str | os.PathLike, depth: int = 0) -> Any:
    if depth > 20:
        raise ValueError(f"{path} is nested too deeply")
    if isinstance(value, dict):
        return {_plain(k, path, depth + 1): _plain(v, path, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(x, path, depth + 1) for x in value]
    if isinstance(value, Inert) and value.name in _SCALARS:
        return _scalar(value, path)
    if isinstance(value, bool | int | float | str | None):
        return value
    raise ValueError(f"{path} holds a {value.name if isinstance(value, Inert) else type(value).__name__}, no number")


def _scalar(value: Inert, path: str | os.PathLike) -> Any:
    """A number from its type and its bytes."""
    try:
        kind, data = value.arguments
        code = kind.arguments[0] if isinstance(kind, Inert) else None
        if code not in _PLAIN or not isinstance(data, bytes | str):
            raise ValueError
        raw = data if isinstance(data, bytes) else data.encode("latin1")
        state = kind.attributes.get("__state__")
        order = state[1] if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">") else "="
        found = np.frombuffer(raw, dtype=np.dtype(order + code))
        if len(found) != 1:
            raise ValueError
        return found[0].item()
    except (ValueError, TypeError, IndexError):
        raise ValueError(f"{path} holds a number of a kind that is not read") from None
