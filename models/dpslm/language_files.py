"""What the released files of both language models, and this project's checkpoints of them, have in common."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils import checkpoint
from utils.files import unwritten, whole_file
from utils.safe_load import load_torch
from utils.tensor_files import independent

NETWORK = "network"  # its name in this project's checkpoints
# key of a recipe -> where the ``model_args`` of a released file have the same
NETWORK_KEYS = {
    "d_model": "dim", "num_layers": "n_layers", "head_dim": "head_dim", "d_ffn": "hidden_dim", "num_heads": "n_heads",
    "num_kv_heads": "n_kv_heads", "rope_theta": "rope_theta",
}  # fmt: skip
NORM_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class LanguageFile:
    """What a file of a language model holds.

    Attributes:
        path: of the file.
        sizes: by the keys of a recipe; of a checkpoint of this project, those that it was trained with.
        tensors: under their released names.
        provenance: of what it was trained on, see ``data.token_corpus.shared_provenance``; a released file tells
            nothing.

    Raises:
        ValueError: sizes that cannot be, or that are not those of its tensors: nothing is made of them.
    """

    path: str
    sizes: dict[str, Any]
    tensors: dict[str, Tensor]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def vocab_size(self) -> int:
        """V, of ids."""
        return self.sizes["num_clusters"] + 1

    def __post_init__(self) -> None:
        s = self.sizes
        if lacking := [key for key in (*NETWORK_KEYS, "num_clusters") if key not in s]:
            raise ValueError(f"{self.path} does not tell these of its sizes: {', '.join(lacking)}")
        if wrong := [f"{key} is {value!r}" for key, value in s.items() if not _is_size(key, value)]:
            raise ValueError(f"{self.path} has sizes that no network has: {', '.join(wrong)}")
        if s["head_dim"] % 2 or s["num_heads"] % s["num_kv_heads"]:
            raise ValueError(
                f"{self.path}: head_dim must be even and num_heads a multiple of num_kv_heads, they are "
                f"{s['head_dim']}, {s['num_heads']} and {s['num_kv_heads']}"
            )
        numbers = [int(found[1]) for name in self.tensors if (found := re.match(r"layers\.(\d+)\.", name))]
        if numbers and max(numbers) + 1 != s["num_layers"]:
            raise ValueError(f"{self.path}: num_layers is {s['num_layers']}, its tensors are of {max(numbers) + 1}")
        wanted = {
            "tok_embeddings.weight": [self.vocab_size, s["d_model"]],
            "layers.0.attention.wq.weight": [s["num_heads"] * s["head_dim"], s["d_model"]],
            "layers.0.feed_forward.w1.weight": [s["d_ffn"], s["d_model"]],
        }
        for name, shape in wanted.items():
            if name in self.tensors and (found := list(self.tensors[name].shape)) != shape:
                raise ValueError(f"{self.path}: {name} is {found}, by its sizes it should be {shape}")

    def require_sizes(self, wanted: Mapping[str, Any]) -> None:
        """Raise a ValueError that names each key of which the recipe and this file say something else."""
        differing = [
            f"{key} is {wanted[key]} in the recipe, {self.sizes[key]} in the file"
            for key in wanted
            if key in self.sizes and self.sizes[key] != wanted[key]
        ]
        if differing:
            raise ValueError(f"{self.path} has other sizes than the recipe: {'; '.join(differing)}")


def _is_size(key: str, value: Any) -> bool:
    if key == "rope_theta":
        return type(value) in (int, float) and 0 < value < float("inf")
    return type(value) is int and value > 0


def read_content(path: str | os.PathLike, what: str) -> Mapping[str, Any]:
    """A file as plain data: a checkpoint of this project, or anything else, as a mapping.

    Args:
        what: should be in it, for the error.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is unsafe, broken, or no mapping.
    """
    content = load_torch(path, mmap=True)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds no {what}, but a {type(content).__name__}")
    return checkpoint.load(path) if content.get("format") == checkpoint.FORMAT else content


def is_checkpoint(content: Mapping[str, Any]) -> bool:
    """Whether a file is a checkpoint of this project."""
    return content.get("format") == checkpoint.FORMAT


def of_checkpoint(
    content: Mapping[str, Any], path: str | os.PathLike, *, kind: str, what: str
) -> tuple[Mapping[str, Any], dict[str, Any], dict[str, Tensor]]:
    """Of a checkpoint of this project its settings, its sizes, and its network's tensors.

    Args:
        kind: of the settings, what holds the sizes.
        what: it should be of, for the error.

    Raises:
        ValueError: it is of another system.
    """
    settings, prefix = content.get("settings") or {}, f"{NETWORK}."
    tensors = {n.removeprefix(prefix): v for n, v in content["model"].items() if n.startswith(prefix)}
    sizes = settings.get(kind)
    if not tensors or not isinstance(sizes, Mapping):
        raise ValueError(f"{path} is a checkpoint of another system: it holds no {what}")
    return settings, dict(sizes), tensors


def numbers(part: Mapping[str, Any], keys: Mapping[str, str], path: str | os.PathLike) -> dict[str, Any]:
    """Values by the keys of a recipe, of a part of a released file that has them under other names.

    Raises:
        ValueError: one is missing, or no number.
    """
    if lacking := [name for name in keys.values() if type(part.get(name)) not in (int, float)]:
        raise ValueError(f"{path}: these are no numbers, or missing: {', '.join(lacking)}")
    found = {key: part[name] for key, name in keys.items()}
    return {k: int(x) if k != "rope_theta" and float(x).is_integer() else x for k, x in found.items()}


def network_sizes(arguments: Mapping[str, Any], path: str | os.PathLike) -> dict[str, Any]:
    """Of the ``model_args`` of a released file, by the keys of a recipe.

    Raises:
        ValueError: one is missing, or its norms are others.
    """
    eps = arguments.get("norm_eps", NORM_EPS)
    if eps != NORM_EPS:
        raise ValueError(f"{path}: norm_eps is {eps!r}, here it is {NORM_EPS}")
    return numbers(arguments, NETWORK_KEYS, path)


def model_args(sizes: Mapping[str, Any], *, vocab_size: int, **more: Any) -> dict[str, Any]:
    """What a released file says of its network."""
    named = {name: sizes[key] for key, name in NETWORK_KEYS.items()}
    return {**named, "norm_eps": NORM_EPS, "vocab_size": vocab_size, **more}


def as_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU that share no memory."""
    return {name: x.float() for name, x in independent({n: t.cpu() for n, t in tensors.items()}).items()}


def write_released(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a file of tensors and plain values, whole; returns its path."""
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # what torch makes of a disk that is full
            raise unwritten(path, error) from error
    return path
