"""Values of a recipe against the types that a constructor asks for: understood, or refused."""

from __future__ import annotations

import collections.abc
import enum
import inspect
import math
import os
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_WHOLE, _NUMBER = re.compile(r"[-+]?\d+"), re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
# As YAML 1.1 writes truth values; YAML 1.2, in which recipes are read, takes all but true and false for text.
_TRUTHS = {"true": True, "yes": True, "on": True, "y": True, "false": False, "no": False, "off": False, "n": False}
_NOTHING = ("null", "none", "~", "")
_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_ANYTHING = (Any, object, inspect.Parameter.empty)
_REFUSED = object()


class Misfit(ValueError):
    """A value that is not what is asked for; the text says what is."""


def fit(value: Any, hint: Any, *, path: Callable[[str], str] = str) -> Any:
    """``value`` itself if it is what a type annotation asks for, or what it unambiguously means.

    Text that writes a number becomes one, text that writes a truth value as YAML 1.1 does (yes, off, N) becomes one, 0
    and 1 become truth values, and 4.0 becomes a whole number, each where that is asked for. An annotation that is not
    known here takes any value, and an object that is still to be built fits everywhere.

    Args:
        path: what becomes of text where a path is asked for.

    Raises:
        Misfit: it is something else.
    """
    fitted = _fit(value, hint, path)
    if fitted is _REFUSED:
        raise Misfit(describe(hint))
    return fitted


def describe(hint: Any) -> str:
    """What an annotation asks for, in words."""
    kind, arguments = _parts(hint)
    if kind is typing.Union:
        nothing, others = [a for a in arguments if a is type(None)], [a for a in arguments if a is not type(None)]
        simple = [a for a in others if not _is_object(_parts(a)[0])]  # what can be written in a line
        return " or ".join(dict.fromkeys(map(describe, [*(simple or others), *nothing])))
    if kind is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if kind in _SEQUENCES:
        items = [_MANY.get(a) or f"({describe(a)})" for a in dict.fromkeys(arguments) if a is not Ellipsis]
        return f"a list of {', '.join(items)}" if items else "a list"
    if kind in _MAPPINGS:
        return "a mapping"
    if _is_path(kind):
        return "a path"
    return _WORDS.get(kind) or f"an object ({getattr(kind, '__name__', kind)})"


def is_plain(value: Any) -> bool:
    """Whether a node of a recipe is a value, and not an object that is still to be built."""
    tag = getattr(value, "tag", None)
    return (value is None or isinstance(value, _PLAIN)) and not (tag and tag.value)


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """list[int] -> list, (int,)."""
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind is typing.Annotated:
        return _parts(arguments[0])
    if kind is types.UnionType:
        kind = typing.Union
    return (type(None) if hint is None else kind or hint), arguments


def _fit(value: Any, hint: Any, path: Callable[[str], str]) -> Any:
    kind, arguments = _parts(hint)
    if kind in _ANYTHING or not is_plain(value):
        return value
    if kind is typing.Union:
        return _fit_union(value, arguments, path)
    if kind is typing.Literal:
        return _fit_choice(value, arguments)
    if kind is type(None):
        return None if value is None or isinstance(value, str) and value.lower() in _NOTHING else _REFUSED
    if kind in _SCALARS:
        return _SCALARS[kind](value) if isinstance(value, _SCALAR) else _REFUSED
    if _is_path(kind):
        return path(value) if isinstance(value, str) and value else _REFUSED  # an empty one is the current folder
    if kind in _SEQUENCES:
        return _fit_items(value, kind, arguments, path) if isinstance(value, list | tuple) else _REFUSED
    if kind in _MAPPINGS:
        return value if isinstance(value, Mapping) else _REFUSED
    return _REFUSED if _is_object(kind) and (value is None or isinstance(value, (*_SCALAR, list, tuple))) else value


def _fit_union(value: Any, members: Sequence[Any], path: Callable[[str], str]) -> Any:
    if isinstance(value, str) and any(map(_is_path, members)):  # before str, which is among them too
        return path(value) if value else None if type(None) in members else _REFUSED
    found = [fitted for member in members if (fitted := _fit(value, member, path)) is not _REFUSED]
    return next((fitted for fitted in found if fitted is value), found[0] if found else _REFUSED)


def _fit_choice(value: Any, choices: Sequence[Any]) -> Any:
    for choice in choices:
        if type(value) is type(choice) and value == choice or value is None and choice is None:
            return choice
    kinds = {type(choice) for choice in choices} & _SCALARS.keys()
    meant = [_SCALARS[kind](value) for kind in kinds if isinstance(value, _SCALAR)]
    return next((choice for choice in choices if any(type(m) is type(choice) and m == choice for m in meant)), _REFUSED)


def _fit_items(value: Sequence[Any], kind: Any, arguments: Sequence[Any], path: Callable[[str], str]) -> Any:
    if not arguments:
        return value
    is_fixed = kind is tuple and Ellipsis not in arguments
    if is_fixed and len(value) != len(arguments):
        return _REFUSED
    hints = arguments if is_fixed else [arguments[0]] * len(value)
    found = [_fit(item, hint, path) for item, hint in zip(value, hints, strict=True)]
    if any(item is _REFUSED for item in found):
        return _REFUSED
    return value if all(a is b for a, b in zip(found, value, strict=True)) else found


def _as_bool(value: Any) -> Any:
    if isinstance(value, str):
        return _TRUTHS.get(value.lower(), _REFUSED)
    return bool(value) if value in (0, 1) else _REFUSED


def _as_int(value: Any) -> Any:
    value = _as_float(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else _REFUSED
    return value


def _as_float(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if _WHOLE.fullmatch(text) else float(text) if _NUMBER.fullmatch(text) else _REFUSED
    if isinstance(value, float) and not math.isfinite(value):
        return _REFUSED  # nothing here is meant to be NaN or infinite
    return _REFUSED if isinstance(value, bool) else value


def _as_text(value: Any) -> Any:
    return value if isinstance(value, str) else _REFUSED


def _is_path(hint: Any) -> bool:
    kind, _ = _parts(hint)
    return isinstance(kind, type) and issubclass(kind, os.PathLike)


def _is_object(kind: Any) -> bool:
    """Whether only an object of a class of its own, or a function, will do."""
    if kind in (*_SEQUENCES, *_MAPPINGS, *_ANYTHING) or _is_path(kind):
        return False
    return kind is collections.abc.Callable or isinstance(kind, type) and not issubclass(kind, (*_SCALAR, enum.Enum))


_SCALAR = (bool, int, float, str)
_PLAIN = (*_SCALAR, list, tuple, Mapping)
_SCALARS: dict[Any, Callable[[Any], Any]] = {bool: _as_bool, int: _as_int, float: _as_float, str: _as_text}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}
_MANY = {bool: "truth values", int: "whole numbers", float: "numbers", str: "texts"}
