"""Reading a downloaded HyperPyYAML file without building anything that it names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from utils.files import require_file
from utils.safe_load import Inert, UnsafeFile

_MAX_BYTES = 100_000  # settings have a few thousand; a hundred times that takes the parser a minute
_MAX_VALUES = 10_000  # a reference repeats what it refers to, so a short file can unfold to a long one
_STANDARD = "tag:yaml.org,2002:"


def load_yaml(path: str | os.PathLike, *, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Read a file whose tags would build objects, as plain values and inert records.

    Args:
        path: a YAML file with a mapping at the top.
        packages: packages whose names may follow ``!new:`` and ``!name:``. Nothing of them is imported either, but
            a file that names others (``!new:subprocess.Popen``) is no settings file.

    Returns:
        key -> value. ``!new:`` and ``!name:`` give an :class:`~utils.safe_load.Inert` with the mapping below them as
        ``attributes``, or the list as ``arguments``; ``!ref <key>`` gives that key's value, and any other reference an
        ``Inert`` of the name ``!ref`` with its text in ``arguments``. ``yes`` and ``no`` are text, as in YAML 1.2.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeFile: another tag, such as ``!apply:``, or a name outside ``packages``.
        ValueError: this is not YAML, not a mapping, or it refers to itself.
    """
    path = Path(path)
    require_file(path)
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path} is too large for settings: {path.stat().st_size} bytes")
    try:
        root = YAML(typ="safe", pure=True).compose(path.read_text(encoding="utf-8"))
        return _Builder(root, packages).top()
    except UnsafeFile as error:
        raise UnsafeFile(
            f"{path} {error}. Nothing in it was run. Ask whoever made it, or remove the line if nothing needs it"
        ) from None
    except OSError:
        raise
    except Exception as error:  # the parser's own errors, and what it runs into on text that is no YAML at all
        raise ValueError(f"{path} cannot be read as settings: {' '.join(str(error).split())[:300]}") from error


class _Builder:
    def __init__(self, root: Node | None, packages: Sequence[str]) -> None:
        if not isinstance(root, MappingNode):
            raise ValueError("there is no mapping at the top")
        self._packages = tuple(f"{package}." for package in packages)
        self._nodes = {key: node for key, node in _items(root)}
        self._active: set[int] = set()
        self._left = _MAX_VALUES

    def top(self) -> dict[str, Any]:
        return {key: self._build(node) for key, node in self._nodes.items()}

    def _build(self, node: Node) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it unfolds to more than {_MAX_VALUES} values")
        if id(node) in self._active:
            raise ValueError("a value refers to itself")
        self._active.add(id(node))
        try:
            tag = str(node.tag)
            return self._plain(node, tag) if tag.startswith(_STANDARD) else self._tagged(node, tag)
        finally:
            self._active.discard(id(node))

    def _plain(self, node: Node, tag: str) -> Any:
        kind = tag.removeprefix(_STANDARD)
        if isinstance(node, MappingNode) and kind == "map":
            return {key: self._build(value) for key, value in _items(node)}
        if isinstance(node, SequenceNode) and kind == "seq":
            return [self._build(value) for value in node.value]
        if isinstance(node, ScalarNode) and kind in _SCALARS:
            return _SCALARS[kind](node.value)
        raise UnsafeFile(f"uses the tag !!{ascii(kind)[1:-1][:100]}")

    def _tagged(self, node: Node, tag: str) -> Any:
        kind, _, name = tag.partition(":")
        if tag in ("!ref", "!copy", "!tuple", "!PLACEHOLDER") and isinstance(node, ScalarNode):
            key = re.fullmatch(r"\s*<(\w+)>\s*", node.value)
            if tag in ("!ref", "!copy") and key and key[1] in self._nodes:
                return self._build(self._nodes[key[1]])
            return _inert(tag, arguments=(node.value,))
        if kind not in ("!new", "!name"):
            raise UnsafeFile(f"uses the tag {ascii(tag)[1:-1][:100]}, which runs or loads something")
        if not name.startswith(self._packages):
            raise UnsafeFile(f"asks for {ascii(name)[1:-1][:100]}, which its settings have no need of")
        if isinstance(node, MappingNode):
            return _inert(name, attributes={key: self._build(value) for key, value in _items(node)})
        if isinstance(node, SequenceNode):
            return _inert(name, arguments=tuple(self._build(value) for value in node.value))
        return _inert(name)


_SCALARS = {
    "str": str,
    "int": lambda text: int(text, 0),
    "float": lambda text: float(re.sub(r"\.(?=inf|nan)", "", text.lower())),
    "bool": lambda text: text.lower() == "true",
    "null": lambda text: None,
    "timestamp": str,
}


def _items(node: MappingNode) -> list[tuple[str, Node]]:
    """The mapping's keys as text, and their nodes."""
    items: dict[str, Node] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode) or not str(key.tag).startswith(_STANDARD):
            raise UnsafeFile("has a key that is not plain text")
        if key.value in items:
            raise ValueError(f"the key {key.value!r} occurs twice")
        items[key.value] = value
    return list(items.items())


def _inert(name: str, arguments: tuple = (), attributes: dict[str, Any] | None = None) -> Inert:
    record = Inert(*arguments)
    record.name, record.attributes = name, attributes or {}
    return record
