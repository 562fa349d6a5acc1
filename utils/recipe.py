"""Recipes: a HyperPyYAML file and overrides to built objects, and errors in full.

A recipe is code: HyperPyYAML can construct anything. Run your own, never one that came with downloaded weights.

A recipe names what it is a variant of with ``base: other.yaml``: its own keys are laid over the base's, and keys of the
base that nothing refers to any more are left out. Only what is asked for is built, with whatever it refers to, so
inference needs no training path.
"""

from __future__ import annotations

import difflib
import io
import os
import pydoc
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml
from hyperpyyaml.core import recursive_update
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap, TaggedScalar
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.tag import Tag

# What programs ask for; every other key of a recipe is there for one of these.
JOBS = ("extract", "tokenize", "decode", "resynthesise", "score", "continue")
ROOTS = ("seed", "gpus", "tokenizer", "vocoder", "model", *JOBS, "task", "train_data", "valid_data", "trainer")
_REFERENCE = re.compile(r"<([^<>\[\]. ]+)[^<>]*>")
_TUPLE = re.compile(r"\(.*\)")
_MISSING = "!PLACEHOLDER"


class Recipe:
    """A recipe that has been read and checked, not yet built.

    Args:
        path: of the YAML file.
        overrides: ``KEY=VALUE`` texts; VALUE is YAML, and a mapping is merged into the recipe's own.
        roots: keys that programs ask for. Every other key must be referred to, directly or not, by one of them.

    Raises:
        FileNotFoundError: there is no such recipe, or no such base.
        ValueError: not YAML, or keys that nobody knows; all of them are listed.
    """

    def __init__(self, path: str | os.PathLike, *, overrides: Iterable[str] = (), roots: Iterable[str] = ROOTS):
        self.path = Path(path)
        self.roots = tuple(roots)
        self._tree, own = _read(self.path)
        used = self._closure([root for root in self.roots if root in self._tree])
        problems = [_suggest(key, self.roots) for key in own if key not in used]
        self._tree = self._part(used)
        changes = _parse_overrides(overrides)
        problems += [f"override {_suggest(key, self._tree)}" for key in changes if key not in self._tree]
        if problems:
            raise ValueError(f"{self.path} has keys that nobody knows: " + "; ".join(problems))
        try:
            recursive_update(self._tree, changes)
        except TypeError as error:
            raise ValueError(f"an override is a mapping where {self.path} has a plain value: {error}") from error
        _settle_scalars(self._tree)

    def build(self, *names: str) -> dict[str, Any]:
        """Build the objects under ``names`` and what they refer to, each once.

        Raises:
            ValueError: a key is missing or has no value yet; all of them are listed.
        """
        if absent := [name for name in names if name not in self._tree]:
            raise ValueError(f"{self.path} lacks {', '.join(absent)}")
        needed = self._closure(names)
        if unset := [name for name in self._tree if name in needed and _is_placeholder(self._tree[name])]:
            flags = " ".join(f"--override {name}=..." for name in unset)
            raise ValueError(f"{self.path}: {', '.join(unset)} must be set, in a copy of the file or with {flags}")
        try:
            built = load_hyperpyyaml(io.StringIO(_dump(self._part(needed))))
        except (TypeError, ImportError) as error:
            raise ValueError(f"{self.path}: {_message(error)}") from error
        return {name: built[name] for name in names}

    def __contains__(self, name: str) -> bool:
        return name in self._tree

    def constructor(self, name: str) -> Any:
        """The class or function that makes the object under a name, which is not built; None for a plain value.

        Raises:
            ValueError: there is no such class or function.
        """
        node = self._tree[name]
        while isinstance(node, TaggedScalar) and node.tag.value == "!ref" and _REFERENCE.fullmatch(node.value):
            node = self._tree[_REFERENCE.fullmatch(node.value)[1]]
        tag = getattr(getattr(node, "tag", None), "value", None) or ""
        kind, _, path = tag.partition(":")
        if kind not in ("!new", "!name", "!apply"):
            return None
        if (found := pydoc.locate(path)) is None:
            raise ValueError(f"{self.path}: {name} names {path}, and there is no such class or function")
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """The value under one name, built if it is an object; ``default`` if the recipe has no such key."""
        return self.build(name)[name] if name in self._tree else default

    def text(self, *names: str) -> str:
        """The recipe with its overrides as YAML: all of it, or ``names`` and what they refer to."""
        return _dump(self._part(self._closure(names)) if names else self._tree)

    def _part(self, keys: set[str]) -> CommentedMap:
        return CommentedMap((key, value) for key, value in self._tree.items() if key in keys)

    def _closure(self, names: Iterable[str]) -> set[str]:
        """The keys under ``names`` and all that they refer to."""
        needed: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in needed or name not in self._tree:
                continue
            needed.add(name)
            waiting += _references(self._tree[name])
        return needed


def _read(path: Path, inside: tuple[Path, ...] = ()) -> tuple[CommentedMap, list[str]]:
    """A recipe laid over its bases, and the keys of its own."""
    if not path.is_file():
        raise FileNotFoundError(f"no such recipe: {path}")
    if path.resolve() in inside:
        raise ValueError(f"{path} is its own base")
    try:
        tree = YAML().load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, CommentedMap):
        raise ValueError(f"{path} is not a recipe: a mapping of keys is expected")
    if "base" not in tree:
        return tree, list(tree)
    base, _ = _read(path.parent / str(tree.pop("base")), (*inside, path.resolve()))
    for key, value in tree.items():
        base[key] = value
    return base, list(tree)


def _parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise ValueError(f"an override is KEY=VALUE, got {text!r}")
        try:
            changes[key.strip()] = YAML().load(value)
        except YAMLError as error:
            raise ValueError(f"override {key.strip()}: {value!r} is not YAML: {error}") from error
    return changes


def _references(node: Any) -> list[str]:
    """The keys that ``!ref`` and ``!copy`` texts below a node name."""
    if isinstance(node, Mapping):
        return [name for value in node.values() for name in _references(value)]
    if isinstance(node, list | tuple):
        return [name for value in node for name in _references(value)]
    if isinstance(node, TaggedScalar) and node.tag.value in ("!ref", "!copy"):
        return _REFERENCE.findall(node.value)
    return []


def _settle_scalars(node: Any) -> None:
    """Write scalars so that they mean the same when HyperPyYAML reads them again.

    1e-4 is a number in YAML 1.2, but a text for HyperPyYAML, which must see 0.0001. And after its first use in a
    process, ruamel.yaml quotes a tuple such as (0.9, 0.98), which makes it a text, unless its tag says what it is.
    """
    for key, value in list(node.items() if isinstance(node, Mapping) else enumerate(node)):
        if isinstance(value, Mapping | list):
            _settle_scalars(value)
        elif isinstance(value, ScalarFloat):
            node[key] = float(value)
        elif isinstance(value, str) and _TUPLE.fullmatch(value):
            node[key] = TaggedScalar(value)
            node[key].yaml_set_ctag(Tag(suffix="!tuple"))


def _dump(tree: CommentedMap) -> str:
    stream = io.StringIO()
    YAML().dump(tree, stream)
    return stream.getvalue()


def _is_placeholder(value: Any) -> bool:
    return isinstance(value, TaggedScalar) and value.tag.value == _MISSING


def _suggest(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return key + (f" (did you mean {close[0]}?)" if close else "")


def _message(error: BaseException) -> str:
    return ": ".join(str(part) for part in error.args) or type(error).__name__
