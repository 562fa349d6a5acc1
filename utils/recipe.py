"""Recipes: a HyperPyYAML file and overrides to built objects, and errors in full.

A recipe is code: HyperPyYAML can construct anything. Run your own, never one that came with downloaded weights.

**Variants.** A recipe names what it is a variant of with ``base: other.yaml``. Its own keys are laid over the base's: a
mapping merges into the block that is there, key by key, and keeps its class; anything else, also a block with a tag of
its own (``!new:...``; of a plain mapping ``!new:builtins.dict``), takes its place. Keys of the base that nothing refers
to any more are left out. Only what is asked for is built, with whatever it refers to, so inference needs no training
path.

**Overrides.** ``KEY=VALUE``, where VALUE is YAML and is laid over in the same way. ``network.d_model=256`` reaches into
a block, ``model.network.d_model=256`` through references too (the block is shared, so it changes for all), and
``mel.sizes.0=512`` into a list. A parameter that the class has but the recipe does not spell may be given too.

**Values.** Before anything is built, what is handed to a class or function is compared with its annotations: text that
writes a number or a truth value counts as one where that is asked for, the rest is refused, all of it in one message.

**Paths.** A relative path in a recipe's file is looked for beside that file, and if nothing is there, in the current
folder. A path of an override is relative to the current folder.
"""

from __future__ import annotations

import copy
import io
import os
import pydoc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAMLError
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.loader import Loader
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from utils.recipe_check import Check, hint
from utils.recipe_overrides import override, parse_overrides
from utils.recipe_tree import block_at, dump, read, references, settle_scalars, tag_of

# What programs ask for; every other key of a recipe is there for one of these.
JOBS = ("extract", "tokenize", "decode", "resynthesise", "score", "continue", "features")
PARTS = ("seed", "gpus", "tokenizer", "vocoder", "model", "task", "train_data", "valid_data", "trainer")
ROOTS = (*PARTS, *JOBS)
_MISSING = "!PLACEHOLDER"


class Recipe:
    """A recipe that has been read and checked, not yet built.

    Args:
        path: of the YAML file.
        overrides: ``KEY=VALUE`` texts.
        roots: keys that programs ask for. Every other key must be referred to, directly or not, by one of them.

    Raises:
        FileNotFoundError: there is no such recipe, or no such base.
        ValueError: not YAML, or keys that nobody knows; all of them are listed.
    """

    def __init__(self, path: str | os.PathLike, *, overrides: Iterable[str] = (), roots: Iterable[str] = ROOTS):
        self.path = Path(path)
        self.roots = tuple(roots)
        self._tree, own = read(self.path)
        self._keep_what_is_used()
        problems = [key + hint(key, self.roots) for key in own if key not in self._tree]
        for key, value in parse_overrides(overrides).items():
            try:
                override(self._tree, key, value)
            except KeyError as error:
                problems.append(f"override {error.args[0]}")
        if problems:
            raise ValueError(f"{self.path} has keys that nobody knows: " + "; ".join(problems))
        self._keep_what_is_used()
        settle_scalars(self._tree)

    def build(self, *names: str) -> dict[str, Any]:
        """Build the objects under ``names`` and what they refer to, each once.

        Raises:
            ValueError: keys are missing or have no value yet, or values are not what the classes ask for; all of them
                are listed. Or a class refuses what it is given: ``KEY: REASON``.
            FileNotFoundError, OSError: the same, for a file that cannot be read.
        """
        if absent := [name for name in names if name not in self._tree]:
            raise ValueError(f"{self.path} lacks {', '.join(absent)}")
        needed = self._closure(names)
        if unset := [name for name in self._tree if name in needed and _is_placeholder(self._tree[name])]:
            flags = " ".join(f"--override {name}=..." for name in unset)
            raise ValueError(f"{self.path}: {', '.join(unset)} must be set, in a copy of the file or with {flags}")
        tree, check = self._checked(names, needed)
        part = CommentedMap((key, value) for key, value in tree.items() if key in needed)
        try:
            built = load_hyperpyyaml(io.StringIO(dump(part)), loader=_NamingLoader)
        except _Refusal as refusal:
            raise refusal.as_one_line(check.looked_for) from refusal.error
        except (ArithmeticError, AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path}: {_message(error)}") from error
        return {name: built[name] for name in names}

    def __contains__(self, name: str) -> bool:
        return name in self._tree

    def constructor(self, name: str) -> Any:
        """The class or function that makes the object under a name, which is not built; None for a plain value.

        Raises:
            ValueError: there is no such class or function.
        """
        kind, _, path = tag_of(block_at(self._tree[name], self._tree)).partition(":")
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
        wanted = self._closure(names) if names else self._tree.keys()
        return dump(CommentedMap((key, copy.deepcopy(v)) for key, v in self._tree.items() if key in wanted))

    def _checked(self, names: Iterable[str], needed: set[str]) -> tuple[CommentedMap, Check]:
        """A copy of the recipe in which values are what the classes ask for."""
        tree = copy.deepcopy(self._tree)
        check = Check(tree)
        for name in tree:
            if name in needed:
                check.block(name)
        for name in names:
            if tree[name] is None or isinstance(
                tree[name], str | bool
            ):  # a number is most likely right: import nothing
                check.uses_of(name)
        if check.problems:
            raise ValueError(f"{self.path}: " + "; ".join(check.problems))
        for name, value in check.meant.items():
            tree[name] = self._tree[name] = value
        return tree, check

    def _keep_what_is_used(self) -> None:
        used = self._closure(self.roots)
        for key in [key for key in self._tree if key not in used]:
            del self._tree[key]

    def _closure(self, names: Iterable[str]) -> set[str]:
        """The keys under ``names`` and all that they refer to."""
        needed: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in needed or name not in self._tree:
                continue
            needed.add(name)
            waiting += references(self._tree[name])
        return needed


class _Refusal(Exception):
    """An error in building the object at ``where`` in the recipe."""

    def __init__(self, where: str, error: Exception):
        super().__init__(where)
        self.where = where
        self.error = error

    def as_one_line(self, looked_for: Mapping[str, Path]) -> Exception:
        """The error that users see: of the same kind, with the key in front."""
        text = f"{self.where}: {_message(self.error)}"
        if not isinstance(self.error, OSError):
            is_plain = isinstance(self.error, ValueError) and type(self.error).__init__ is ValueError.__init__
            return (type(self.error) if is_plain else ValueError)(text)
        for path, folder in looked_for.items():
            if path in text:
                text += f". {path} was looked for in {folder.absolute()}, where the recipe is, and in {Path.cwd()}"
        return (FileNotFoundError if isinstance(self.error, FileNotFoundError) else OSError)(text)


class _NamingLoader(Loader):
    """Says at which key an object could not be built."""

    def construct_document(self, node: Node) -> Any:
        self._names = _names(node)
        return super().construct_document(node)

    def construct_object(self, node: Node, deep: bool = True) -> Any:  # HyperPyYAML builds deep
        try:
            return super().construct_object(node, deep=deep)
        except _Refusal:
            raise
        except (TypeError, ValueError, ImportError, OSError, YAMLError) as error:
            raise _Refusal(self._names.get(id(node), "recipe"), error) from error
        except (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError) as error:
            # What libraries say of a size of 0, or of an object of another class in a place.
            said = ValueError(f"cannot be built of these values ({type(error).__name__}: {_message(error)})")
            raise _Refusal(self._names.get(id(node), "recipe"), said) from error
        except Exception as error:
            error.add_note(f"while building {self._names.get(id(node), 'recipe')} of the recipe")
            raise


def _names(root: Node) -> dict[int, str]:
    """Of each node its shortest dotted name: that of a shared block is its own key."""
    names: dict[int, str] = {}
    waiting = [(root, "")]
    for node, name in waiting:  # grows as it goes: level by level
        if id(node) in names:
            continue
        names[id(node)] = name
        prefix = f"{name}." if name else ""
        if isinstance(node, MappingNode):
            waiting += [(value, f"{prefix}{key.value}") for key, value in node.value]
        elif isinstance(node, SequenceNode):
            waiting += [(value, f"{prefix}{number}") for number, value in enumerate(node.value)]
    return names


def _is_placeholder(node: Any) -> bool:
    return tag_of(node) == _MISSING


def _message(error: BaseException) -> str:
    if isinstance(error, OSError | YAMLError):
        return " ".join(str(error).split())
    return ": ".join(str(part) for part in error.args) or type(error).__name__
