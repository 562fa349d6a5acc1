"""The nodes of a recipe before anything is built: read, laid over a base, referred to, written as text."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap, TaggedScalar
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.tag import Tag

_REFERENCE = re.compile(r"<([^<>\[\]. ]+)[^<>]*>")
_LONGEST = 20  # references that follow each other; more are a circle
_TUPLE = re.compile(r"\(.*\)")


class Written(str):
    """Text that stands in a recipe's file; ``folder`` is the file's. What was given as an override is plain text."""

    folder: Path

    @classmethod
    def at(cls, text: str, folder: Path) -> Written:
        made = cls(text)
        made.folder = folder
        return made


def read(path: Path, inside: tuple[Path, ...] = ()) -> tuple[CommentedMap, list[str]]:
    """A recipe laid over its bases, and the keys of its own."""
    if not path.is_file():
        raise FileNotFoundError(f"no such recipe: {path}")
    if path.resolve() in inside:
        raise ValueError(f"{path} is its own base")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error})") from error
    tree = parse(text, str(path))
    if not isinstance(tree, CommentedMap):
        raise ValueError(f"{path} is not a recipe: a mapping of keys is expected")
    if wrong := [repr(key) for key in tree if not isinstance(key, str)]:
        raise ValueError(f"{path}: keys must be text, got {', '.join(wrong)}")
    own = [key for key in tree if key != "base"]
    if "base" in tree:
        name = tree.pop("base")
        if not isinstance(name, str):
            raise ValueError(f"{path}: base must be a path, got {name!r}")
        base, _ = read(path.parent / name, (*inside, path.resolve()))
    else:
        base = CommentedMap()
    _remember_folder(tree, path.parent)
    merge(base, tree, base)
    return base, own


def parse(text: str, what: str) -> Any:
    """The nodes of a text in YAML.

    Raises:
        ValueError: it is none; the message, in one line, begins with ``what``.
    """
    try:
        return YAML().load(text)
    except (YAMLError, ValueError, RecursionError) as error:  # also of dates and depths that do not exist
        said = str(error).partition("To suppress this check")[0]
        raise ValueError(f"{what} is not YAML: {' '.join(said.split())}") from error


def _remember_folder(node: Any, folder: Path) -> None:
    for key, value in list(node.items() if isinstance(node, Mapping) else enumerate(node)):
        if isinstance(value, Mapping | list):
            _remember_folder(value, folder)
        elif type(value) is str:
            node[key] = Written.at(value, folder)


def merge(into: Any, changes: Mapping[str, Any], tree: Mapping[str, Any]) -> None:
    """Lay ``changes`` over a block of ``tree``: mappings without a tag key by key, anything else in its place."""
    for key, value in changes.items():
        block = block_at(into.get(key), tree)
        if isinstance(value, Mapping) and not tag_of(value) and isinstance(block, Mapping):
            merge(block, value, tree)
        else:
            into[key] = value


def block_at(node: Any, tree: Mapping[str, Any]) -> Any:
    """What a node is, or what it refers to as a whole."""
    for _ in range(_LONGEST):
        target = _whole_target(node)
        if target is None:
            break
        node = tree
        for part in target.replace("]", "").split("["):
            node = node.get(part) if isinstance(node, Mapping) else None
    return node


def is_circle(node: Any, tree: Mapping[str, Any]) -> bool:
    """Whether a node refers to itself, through others."""
    return _whole_target(block_at(node, tree)) is not None


def _whole_target(node: Any) -> str | None:
    """``a[b]`` of ``!ref <a[b]>``; None for anything else, such as arithmetic or an attribute."""
    found = re.fullmatch(r"<([^<>.]+)>", node.value.strip()) if tag_of(node) == "!ref" and is_reference(node) else None
    return found[1] if found else None


def tag_of(node: Any) -> str:
    """``!new:collections.Counter``, ``!ref``; empty for a plain value."""
    tag = getattr(node, "tag", None)
    return (tag and tag.value) or ""


def is_reference(node: Any) -> bool:
    """Whether a node stands for another one, or for text or arithmetic with others."""
    return isinstance(node, TaggedScalar) and tag_of(node) in ("!ref", "!copy")


def is_lost(tree: Mapping[str, Any], target: str) -> bool:
    """Whether nothing is where ``a[b][c]`` or ``a.attribute`` refers to, as far as can be seen before it is built."""
    node: Any = tree
    for part in target.split(".")[0].replace("]", "").split("["):
        if not isinstance(node, Mapping):
            return False
        if part not in node:
            return True
        node = node[part]
    return False


def references(node: Any) -> list[str]:
    """The keys that ``!ref`` and ``!copy`` texts below a node name."""
    if isinstance(node, Mapping):
        return [name for value in node.values() for name in references(value)]
    if isinstance(node, list | tuple):
        return [name for value in node for name in references(value)]
    if is_reference(node):
        return _REFERENCE.findall(node.value)
    return []


def settle_scalars(node: Any) -> None:
    """Write scalars so that they mean the same when HyperPyYAML reads them again.

    1e-4 is a number in YAML 1.2, but a text for HyperPyYAML, which must see 0.0001. And after its first use in a
    process, ruamel.yaml quotes a tuple such as (0.9, 0.98), which makes it a text, unless its tag says what it is.
    """
    for key, value in list(node.items() if isinstance(node, Mapping) else enumerate(node)):
        if isinstance(value, Mapping | list):
            settle_scalars(value)
        elif isinstance(value, ScalarFloat):
            node[key] = float(value)
        elif isinstance(value, str) and _TUPLE.fullmatch(value):
            node[key] = TaggedScalar(str(value))
            node[key].yaml_set_ctag(Tag(suffix="!tuple"))


def dump(tree: CommentedMap) -> str:
    """The text of a tree that is nobody else's."""
    _forget_folder(tree)
    stream = io.StringIO()
    YAML().dump(tree, stream)
    return stream.getvalue()


def _forget_folder(node: Any) -> None:
    for key, value in list(node.items() if isinstance(node, Mapping) else enumerate(node)):
        if isinstance(value, Mapping | list):
            _forget_folder(value)
        elif type(value) is Written:
            node[key] = str(value)
