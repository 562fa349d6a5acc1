"""The codebook of DP-SLM's units: a released file, or a folder that the k-means of this project has written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from utils.errors import first_few
from utils.safe_load import load_torch
from utils.tensor_files import load_safetensors


def read_codebook(path: str | os.PathLike, *, layer: int, num_clusters: int) -> Tensor:
    """[K, D] float32.

    Args:
        path: ``codebook-layer-11-k-500-*.pt``, which holds {"codebook": tensor}; or a folder with
            ``kmeans.safetensors``.
        layer, num_clusters: that it should be of; also the name of a released file tells them.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: it is unsafe, broken or not finite, or of another layer or size.
    """
    path = Path(path)
    if path.is_dir():
        rows = _of_folder(path, layer)
    else:
        for key, said, wanted in (("wavlm_layer", r"layer-(\d+)", layer), ("num_clusters", r"-k-(\d+)", num_clusters)):
            if (found := re.search(said, path.name)) and int(found[1]) != wanted:
                raise ValueError(f"{path}: by its name it is of {key} {found[1]}, the recipe has {wanted}")
        content = load_torch(path)
        rows = content.get("codebook") if isinstance(content, Mapping) else None
    if not isinstance(rows, Tensor) or rows.ndim != 2 or not rows.numel() or not rows.is_floating_point():
        raise ValueError(f"{path} holds no codebook [K, D]")
    if len(rows) != num_clusters:
        raise ValueError(f"{path} has {len(rows)} clusters, num_clusters is {num_clusters}")
    if not rows.isfinite().all():
        raise ValueError(f"{path} holds values that are not finite")
    return rows.float()


def _of_folder(folder: Path, layer: int) -> Tensor:
    file = folder / "kmeans.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"no kmeans.safetensors in {folder}")
    stored = load_safetensors(file)
    if f"layer_{layer}" not in stored:
        raise ValueError(f"{file} has no centres of layer {layer}; it has {first_few(sorted(stored))}")
    return stored[f"layer_{layer}"]
