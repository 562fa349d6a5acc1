"""``KEY=VALUE`` texts that change a recipe: dotted keys reach into its blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ruamel.yaml.comments import CommentedMap

from utils.recipe_check import hint, parameters_of
from utils.recipe_tree import block_at, merge, parse, tag_of


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise ValueError(f"an override is KEY=VALUE, got {text!r}")
        changes[key.strip()] = parse(value, f"override {key.strip()}: {value!r}")
    return changes


def override(tree: CommentedMap, key: str, value: Any) -> None:
    """Set or merge a value at a dotted key.

    Raises:
        KeyError: there is no such key; its text says which there are.
        ValueError: a mapping is to merge into what is none.
    """
    node: Any = tree
    parts = [key] if key in tree else key.split(".")
    for number, part in enumerate(parts):
        name, is_last = ".".join(parts[: number + 1]), number == len(parts) - 1
        if isinstance(node, list) and re.fullmatch(r"\d+", part) and int(part) < len(node):
            part = int(part)
        elif not isinstance(node, Mapping) or not (part in node or is_last and _may_be_given(node, part, name)):
            raise KeyError(key + _suggestion(tree, node, parts[:number], part))
        if is_last:
            break
        node = block_at(node[part], tree)
    block = block_at(node[part] if isinstance(node, list) else node.get(part), tree)
    if not isinstance(value, Mapping) or tag_of(value) or (block is None and isinstance(node, Mapping)):
        node[part] = value
    elif isinstance(block, Mapping):
        merge(block, value, tree)
    else:
        raise ValueError(f"override {key} is a mapping where the recipe has a plain value: {block!r}")


def _may_be_given(node: Mapping[str, Any], part: str, name: str) -> bool:
    """Whether a block that does not spell a key may have it all the same."""
    if not tag_of(node):
        return False
    parameters = parameters_of(node, name)
    return parameters is None or part in parameters


def _suggestion(tree: Mapping[str, Any], node: Any, before: list[str], part: str) -> str:
    """The nearest key of the block that was reached; else the nearest that stands inside another block."""
    if not isinstance(node, Mapping):
        where = ".".join(before)
        return f" ({where} is no block)" if not isinstance(node, list) else f" ({where} has {len(node)} items)"
    known = list(node) + list((parameters_of(node, ".".join(before)) if before else None) or ())
    if not before:
        deeper = {name.rpartition(".")[2]: name for name in _dotted(tree)}
        close = hint(part, known)
        return close or (f" (did you mean {deeper[part]}?)" if part in deeper else "")
    return hint(part, known)


def _dotted(node: Any, prefix: str = "") -> Iterable[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
