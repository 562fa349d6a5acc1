"""The released files of the unit language model, and this project's checkpoints of it. Nothing in them can run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from models.dpslm.language_files import (
    LanguageFile,
    as_float32,
    is_checkpoint,
    model_args,
    network_sizes,
    numbers,
    of_checkpoint,
    read_content,
    write_released,
)
from utils.tensor_files import as_tensors

EXPORT = "unit_lm.pt"
KIND = "unit_lm"  # of a checkpoint's settings, what holds the sizes


def read_unit_lm(path: str | os.PathLike) -> LanguageFile:
    """A released file (``mistral-ulm-*.pt``), or ``best.pth`` or ``last.pth`` of this project.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is unsafe, broken, or something else.
    """
    what = "unit language model"
    content = read_content(path, what)
    if is_checkpoint(content):
        settings, sizes, tensors = of_checkpoint(content, path, kind=KIND, what=what)
        provenance = settings.get("provenance") or {}
        return LanguageFile(path=os.fspath(path), sizes=sizes, tensors=tensors, provenance=provenance)
    parts = {name: content.get(name) for name in ("model_args", "model_state_dict")}
    if wrong := [name for name, part in parts.items() if not isinstance(part, Mapping)]:
        raise ValueError(f"{path} is no {what}: {', '.join(wrong)} is missing, or no mapping")
    sizes = network_sizes(parts["model_args"], path)
    sizes["num_clusters"] = numbers(parts["model_args"], {"ids": "vocab_size"}, path)["ids"] - 1  # BOS is one
    tensors = as_tensors(parts["model_state_dict"], path)
    return LanguageFile(path=os.fspath(path), sizes=sizes, tensors=tensors)


def write_unit_lm(
    folder: str | os.PathLike, sizes: Mapping[str, Any], tensors: Mapping[str, Tensor], *, dropout: float
) -> Path:
    """Write ``unit_lm.pt`` in the released layout, float32; returns its path.

    Args:
        sizes: by the keys of a recipe, ``num_clusters`` and all of ``NETWORK_KEYS``.
        tensors: under their released names.
        dropout: that it was trained with.
    """
    arguments = model_args(sizes, vocab_size=sizes["num_clusters"] + 1, dropout=dropout)
    content = {"model_args": arguments, "model_state_dict": as_float32(tensors)}
    return write_released(Path(folder) / EXPORT, content)
