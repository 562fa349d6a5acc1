"""Checkpoints: tensors and plain values, written atomically, read without running code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from utils.errors import first_few
from utils.files import unwritten, whole_file
from utils.safe_load import load_torch
from utils.tensor_files import as_tensors

FORMAT = "tse-checkpoint"
VERSION = 1


class Stateful(Protocol):
    """Whatever can be saved under a name."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def save(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, so that whatever happens meanwhile, the file of this name is a whole one."""
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save({"format": FORMAT, "version": VERSION, **content}, file)
        except RuntimeError as error:  # what torch makes of a disk that is full
            raise unwritten(path, RuntimeError("torch could not write all of it")) from error


def load(path: str | os.PathLike, *, stand_ins: Sequence[str] = ()) -> dict[str, Any]:
    """Read a checkpoint, of this project or another, as plain data on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken, holds more than tensors and plain values, or is of a later version; one of this
            project has no tensors under ``model``.
    """
    return checked(load_torch(path, stand_ins=stand_ins), path)


def checked(content: Any, path: str | os.PathLike) -> dict[str, Any]:
    """What was read from a torch file, as a checkpoint; for the rest see ``load``."""
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a checkpoint: it holds a {type(content).__name__}")
    if content.get("format") == FORMAT:
        version = content.get("version")
        if not isinstance(version, int):
            raise ValueError(f"{path} is a broken checkpoint: its version is {version!r}")
        if version > VERSION:
            raise ValueError(f"{path} is of version {version}, this program reads up to {VERSION}: update it")
        as_tensors(content.get("model"), path)
        if wrong := [key for key in ("frozen", "settings") if not isinstance(content.get(key, {}), dict)]:
            raise ValueError(f"{path} is a broken checkpoint: {' and '.join(wrong)} must be a mapping")
    return content


def flatten(states: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """{"network": {"a": x}} -> {"network.a": x}."""
    return {f"{owner}.{name}": value for owner, state in states.items() for name, value in state.items()}


def find_tensors(content: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """All tensors in nested dicts and lists, under the keys that lead to them, joined by dots."""
    if isinstance(content, torch.Tensor):
        return {prefix: content}
    pairs = content.items() if isinstance(content, Mapping) else enumerate(content) if _is_list(content) else ()
    found: dict[str, torch.Tensor] = {}
    for key, value in pairs:
        found |= find_tensors(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def load_tensors(
    modules: Mapping[str, torch.nn.Module], tensors: Mapping[str, torch.Tensor], source: str | os.PathLike
) -> None:
    """Load flat tensors into named modules, strictly.

    Raises:
        ValueError: names that are missing or unexpected, shapes or kinds of values that differ, or values that are not
            finite; the first of each are listed.
    """
    needed = flatten({name: module.state_dict() for name, module in modules.items()})
    problems = []
    for what, names in (
        ("missing", needed.keys() - tensors.keys()),
        ("unexpected", tensors.keys() - needed.keys()),
    ):
        if names:
            problems.append(f"{len(names)} {what}: {first_few(sorted(names))}")
    differing = [
        f"{name} {list(tensors[name].shape)} instead of {list(needed[name].shape)}"
        for name in sorted(needed.keys() & tensors.keys())
        if needed[name].shape != tensors[name].shape
    ]
    if differing:
        problems.append(f"{len(differing)} of another shape: {first_few(differing)}")
    if others := [
        f"{name} ({_kind(tensors[name])})"
        for name in sorted(needed.keys() & tensors.keys())
        if _kind(tensors[name]) != _kind(needed[name])
    ]:
        problems.append(f"{len(others)} of another kind: {first_few(others)}")
    if problems:
        raise ValueError(f"the tensors of {source} do not fit the recipe; " + "; ".join(problems))
    floats = [name for name in sorted(needed) if tensors[name].is_floating_point()]
    if broken := [name for name in floats if not tensors[name].isfinite().all()]:
        raise ValueError(
            f"{len(broken)} of {len(needed)} tensors of {source} are not finite: {first_few(broken)}. The training "
            "that wrote it had diverged: use an earlier checkpoint"
        )
    for owner, module in modules.items():
        prefix = f"{owner}."
        module.load_state_dict({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)})


def require_same(
    saved: Mapping[str, Any], *, frozen: Mapping[str, str], settings: Mapping[str, Any], source: str | os.PathLike
) -> None:
    """Raise a ValueError if a checkpoint was trained with other frozen weights, or in another mode, than these.

    Args:
        saved: the checkpoint; one that was converted may say nothing of either.
        frozen: name -> digest of the frozen parts here.
        settings: what the user of the weights must share with their training.
    """
    problems = []
    for title, here in (("frozen", frozen), ("settings", settings)):
        then = saved.get(title, {})
        problems += [text for name in here if name in then for text in _differences(name, then[name], here[name])]
    if problems:
        raise ValueError(
            f"{source} was trained with something else than this recipe names: {'; '.join(problems)} "
            "(a long value is the SHA-256 of frozen weights)"
        )


def _kind(tensor: torch.Tensor) -> str:
    """What a tensor must share with the one that takes its values; the number of bits may differ."""
    if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
        return "without values" if tensor.is_meta else "quantised" if tensor.is_quantized else str(tensor.layout)
    if tensor.dtype == torch.bool:
        return "truth values"
    return "complex" if tensor.is_complex() else "floating" if tensor.is_floating_point() else "whole numbers"


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _differences(name: str, then: Any, here: Any) -> list[str]:
    """What a setting was and is, where that differs; of mappings each part of its own."""
    if then == here:
        return []
    if isinstance(then, Mapping) and isinstance(here, Mapping):
        pairs = {key: (then.get(key, "nothing"), here.get(key, "nothing")) for key in (*then, *here)}
        return [text for key, (one, other) in pairs.items() for text in _differences(f"{name}.{key}", one, other)]
    return [f"{name} was {str(then)[:40]}, is {str(here)[:40]}"]
