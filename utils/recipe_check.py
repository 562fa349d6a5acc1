"""What a recipe hands to constructors, against their signatures, before anything is built."""

from __future__ import annotations

import difflib
import functools
import inspect
import pydoc
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hyperpyyaml.core import recursive_resolve

from utils.recipe_tree import Written, is_circle, is_lost, is_reference, tag_of
from utils.values import Misfit, fit, is_plain

_REFERENCE = re.compile(r"<([^<>]+)>")
_CALLS = ("!new:", "!name:", "!apply:")


class Check:
    """Goes through blocks of a recipe, converts what is meant otherwise than written, and collects what is wrong.

    Args:
        tree: the recipe, key -> node. Arguments of blocks are replaced in it.

    Attributes:
        problems: one line each.
        meant: of plain values at the top that blocks refer to, what all of these blocks took them for.
        looked_for: relative paths in the recipe's files -> the folder of the file, where nothing was.
    """

    def __init__(self, tree: Mapping[str, Any]):
        self._tree = tree
        self._missing: dict[str, list[str]] = {}
        self._wrong: dict[tuple[str, str, str], list[str]] = {}
        self._taken: dict[str, list[Any]] = {}
        self._other: list[str] = []
        self.looked_for: dict[str, Path] = {}

    @property
    def problems(self) -> list[str]:
        missing = [f"{name} is missing, and {_listed(where)} to it" for name, where in self._missing.items()]
        wrong = [
            f"{name} must be {wanted}, got {value}" + (f" ({_listed(where)} to it)" if where else "")
            for (name, wanted, value), where in self._wrong.items()
        ]
        return missing + self._other + wrong

    @property
    def meant(self) -> dict[str, Any]:
        return {
            name: values[0]
            for name, values in self._taken.items()
            if all(type(v) is type(values[0]) and v == values[0] for v in values)
        }

    def block(self, name: str) -> None:
        """Check all that stands under a key."""
        self._visit(self._tree[name], name)

    def uses_of(self, name: str) -> None:
        """Check a plain value that is asked for by itself, by what any block takes it for."""
        for key, top in self._tree.items():
            for node, where in _blocks(top, key):
                used = [argument for argument, value in node.items() if _refers_to(value, name)]
                if used and (call := _call(node, where)):
                    for argument in used:
                        self._argument(node, argument, f"{where}.{argument}", call[1].get(argument))

    def _visit(self, node: Any, where: str) -> None:
        try:
            call = _call(node, where)
        except ValueError as error:
            self._other.append(str(error))
            call = None
        if call:
            self._call(node, where, *call)
        if isinstance(node, Mapping | list):
            for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
                self._visit(value, f"{where}.{key}")
        elif is_reference(node):
            if is_circle(node, self._tree):
                self._other.append(f"{where} refers to itself: {node.value}")
            for target in _REFERENCE.findall(node.value):
                if is_lost(self._tree, target):
                    self._missing.setdefault(target, []).append(where)

    def _call(self, node: Any, where: str, title: str, parameters: Mapping[str, inspect.Parameter]) -> None:
        by_keyword = {n: p for n, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        given = node if isinstance(node, Mapping) else {}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
            self._other += [
                f"{where}.{name} is no parameter of {title}{hint(name, by_keyword)}"
                for name in given
                if name not in by_keyword
            ]
        if not tag_of(node).startswith("!name:") and not isinstance(node, list):
            self._other += [
                f"{where} lacks {name}, which {title} needs"
                for name, p in by_keyword.items()
                if p.default is p.empty and name not in given
            ]
        for name in given:
            self._argument(node, name, f"{where}.{name}", by_keyword.get(name))

    def _argument(self, node: Any, name: str, where: str, parameter: inspect.Parameter | None) -> None:
        try:
            value, source = self._value(node[name])
        except Exception as error:  # HyperPyYAML's own arithmetic and look-ups: division by zero, an item of a number
            said = str(error) or type(error).__name__
            self._other.append(f"{where}: {node[name].value!r} cannot be worked out ({said})")
            return
        if parameter is None or not is_plain(value) or (value is None and parameter.default is None):
            return
        try:
            meant = fit(value, parameter.annotation, path=self._find)
        except Misfit as error:
            uses = self._wrong.setdefault((source or where, str(error), _shown(value)), [])
            uses += [where] if source and where not in uses else []
            return
        if source:
            self._taken.setdefault(source, []).append(value if isinstance(meant, str) else meant)
        if meant is not value:
            node[name] = meant

    def _value(self, node: Any) -> tuple[Any, str | None]:
        """What a node stands for, and the key that it refers to, directly or not, where that holds it."""
        source = None
        while is_reference(node) and tag_of(node) == "!ref" and not is_circle(node, self._tree):
            targets = _REFERENCE.findall(node.value)
            if any("." in target or is_lost(self._tree, target) for target in targets):
                break
            is_whole = _REFERENCE.fullmatch(node.value)
            source = targets[0] if is_whole else None
            node = recursive_resolve(node.value, [], self._tree)
        return node, source

    def _find(self, path: str) -> str:
        """A relative path of a recipe's file, beside that file if it is there; else from the current folder."""
        if not isinstance(path, Written) or not path or Path(path).is_absolute():
            return path
        beside = path.folder.absolute() / path
        if beside.exists():
            return str(beside.resolve())
        self.looked_for[str(path)] = path.folder
        return path


def parameters_of(node: Any, where: str) -> Mapping[str, inspect.Parameter] | None:
    """The parameters that a block's keys may name; None for what is no block or takes any.

    Raises:
        ValueError: there is no such class or function.
    """
    call = _call(node, where)
    if call is None or any(p.kind == p.VAR_KEYWORD for p in call[1].values()):
        return None
    return call[1]


def hint(name: str, known: Iterable[str]) -> str:
    """`` (did you mean ...?)``, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _blocks(node: Any, where: str) -> Iterator[tuple[Any, str]]:
    """The blocks at and below a node that have keys."""
    if isinstance(node, Mapping) and tag_of(node).startswith(_CALLS):
        yield node, where
    if isinstance(node, Mapping | list):
        for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            yield from _blocks(value, f"{where}.{key}")


def _call(node: Any, where: str) -> tuple[str, Mapping[str, inspect.Parameter]] | None:
    """The name of what a block calls, and its parameters; None if it is no block, or says nothing of them."""
    prefix, _, name = tag_of(node).partition(":")
    if f"{prefix}:" not in _CALLS:
        return None
    try:
        found = pydoc.locate(name)
    except pydoc.ErrorDuringImport as error:
        raise ValueError(f"{where}: {name} cannot be imported: {error.value!r}") from error
    if found is None:
        raise ValueError(f"{where}: there is no {name}")
    parameters = _signature(found)
    return None if parameters is None else (name, parameters)


@functools.cache
def _signature(callable_: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        signature = inspect.signature(callable_)
    except (TypeError, ValueError):  # no function, or one that says nothing of its parameters
        return None
    inner = callable_.__init__ if inspect.isclass(callable_) else inspect.unwrap(callable_)
    names = getattr(inner, "__globals__", vars(sys.modules.get(getattr(callable_, "__module__", ""), object)))
    return {n: p.replace(annotation=_evaluated(p.annotation, names)) for n, p in signature.parameters.items()}


def _evaluated(annotation: Any, names: Mapping[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(names))  # of a class that is about to be built
    except Exception:  # a name for type checkers alone: it says nothing here
        return inspect.Parameter.empty


def _refers_to(node: Any, name: str) -> bool:
    return is_reference(node) and node.value.strip() == f"<{name}>"


def _listed(where: list[str]) -> str:
    return f"{', '.join(where)} {'refer' if len(where) > 1 else 'refers'}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing (null)"
    return repr(str(value) if isinstance(value, str) else value)[:200]
