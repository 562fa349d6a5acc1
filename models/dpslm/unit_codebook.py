"""The centres that units are indices into: the released file, or a folder that kmeans training exports."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from utils.errors import first_few
from utils.safe_load import load_torch
from utils.tensor_files import load_safetensors

# codebook-layer-11-k-500-<hash>.pt
_SAYS = {"wavlm_layer": re.compile(r"(?:^|[-_])layer-(\d+)(?=[-_.]|$)"),
         "num_clusters": re.compile(r"(?:^|[-_])k-(\d+)(?=[-_.]|$)")}  # fmt: skip


def read_codebook(path: str | os.PathLike, *, layer: int, num_clusters: int) -> Tensor:
    """The centres, [K, D] float32.

    Args:
        path: a file ``{"codebook": [K, D]}``, or a folder with ``kmeans.safetensors``, of which ``layer_{layer}`` is
            read.
        layer: the recipe's ``wavlm_layer``.
        num_clusters: the recipe's, K.

    Raises:
        FileNotFoundError: there is no such file, or no ``kmeans.safetensors`` in the folder.
        ValueError: it is unsafe or broken, holds something else, another number of centres, or values that are not
            finite; or its name says another layer or number.
    """
    path = Path(path)
    wanted = {"wavlm_layer": layer, "num_clusters": num_clusters}
    for key, pattern in _SAYS.items():
        if (said := pattern.search(path.name)) and int(said[1]) != wanted[key]:
            raise ValueError(f"{path} is, by its name, of {key} {said[1]}; the recipe has {key} {wanted[key]}")
    if path.is_dir():
        file, name = path / "kmeans.safetensors", f"layer_{layer}"
        if not file.is_file():
            raise FileNotFoundError(f"no kmeans.safetensors in {path}, which is to hold the codebook")
        found = load_safetensors(file)
    else:
        file, name = path, "codebook"
        found = load_torch(path)
    if not isinstance(found, Mapping) or name not in found:
        has = first_few(sorted(map(str, found))) if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise ValueError(f"{file} has no tensor {name}; it has {has}")
    codebook = found[name]
    if not isinstance(codebook, Tensor) or codebook.ndim != 2 or not codebook.is_floating_point():
        told = f"{codebook.dtype} {list(codebook.shape)}" if isinstance(codebook, Tensor) else type(codebook).__name__
        raise ValueError(f"{name} in {file} must be floats [K, D], it is {told}")
    if len(codebook) != num_clusters:
        raise ValueError(f"{file} has {len(codebook)} centres, the recipe's num_clusters is {num_clusters}")
    if not codebook.isfinite().all():
        raise ValueError(f"{name} in {file} has values that are not finite")
    return codebook.float().contiguous()
