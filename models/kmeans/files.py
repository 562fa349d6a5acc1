"""Folders of k-means codebooks, in the released layout and in ours. Nothing in them can run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.errors import first_few
from utils.files import whole_file
from utils.safe_joblib import load_joblib
from utils.safe_load import Inert
from utils.tensor_files import existing_folder, listing, load_safetensors, write_safetensors


def read_kmeans(folder: str | os.PathLike, layers: Sequence[int]) -> list[Tensor]:
    """Read the cluster centres of some layers.

    Args:
        folder: holds one ``*_L{l}.pt`` a layer, a scikit-learn k-means saved by joblib, or our ``kmeans.safetensors``
            with the tensors ``layer_{l}``. Where both are there, ours counts. For one layer also such a joblib file
            itself (``km.bin``).
        layers: indices of the WavLM layers.

    Returns:
        One float32 [V, D] a layer, in the order of ``layers``. Centres in float64 are rounded.

    Raises:
        FileNotFoundError: there is no such folder, or it lacks files for some layers.
        ValueError: a layer with two files, a file that is unsafe or broken, centres that are not finite or differ
            in shape between layers.
    """
    if os.path.isfile(folder) and len(layers) == 1:
        return _checked(folder, {layers[0]: (Path(folder), _released_centres(Path(folder)))}, layers)
    folder = existing_folder(folder, "k-means")
    ours = folder / "kmeans.safetensors"
    if ours.is_file():
        stored = load_safetensors(ours)
        missing = [layer for layer in layers if f"layer_{layer}" not in stored]
        if missing:
            raise ValueError(
                f"{ours} has no centres for layers {first_few(missing)}; it has {first_few(sorted(stored))}"
            )
        found = {layer: (ours, stored[f"layer_{layer}"]) for layer in layers}
    else:
        files = _kmeans_files(folder)
        missing = [layer for layer in layers if layer not in files]
        if missing:
            raise FileNotFoundError(
                f"no k-means for layers {first_few(missing)} in {folder}: one file *_L<layer>.pt a layer is needed, or "
                f"kmeans.safetensors. Found {first_few(listing(folder))}"
            )
        twice = [
            f"layer {layer}: {first_few([f.name for f in files[layer]])}" for layer in layers if len(files[layer]) > 1
        ]
        if twice:
            raise ValueError(f"more than one k-means for a layer in {folder}; keep one. {'; '.join(twice)}")
        found = {layer: (files[layer][0], _released_centres(files[layer][0])) for layer in layers}
    return _checked(folder, found, layers)


def _checked(
    folder: str | os.PathLike, found: Mapping[int, tuple[Path, Tensor]], layers: Sequence[int]
) -> list[Tensor]:
    """The centres in the order of the layers, if they are finite and of one shape."""
    for path, centres in found.values():
        if centres.ndim != 2 or not centres.is_floating_point() or 0 in centres.shape:
            raise ValueError(f"centres must be floats [V, D], {path} has {centres.dtype} {list(centres.shape)}")
    result = {layer: (path, centres.float()) for layer, (path, centres) in found.items()}
    broken = [f"{path.name} (layer {layer})" for layer, (path, c) in result.items() if not c.isfinite().all()]
    if broken:
        raise ValueError(f"centres that are not finite (NaN or infinite) in {folder}: {first_few(broken)}")
    shapes = {layer: list(centres.shape) for layer, (_, centres) in result.items()}
    if len({tuple(shape) for shape in shapes.values()}) > 1:
        facts = ", ".join(f"layer {layer}: {shape}" for layer, shape in shapes.items())
        raise ValueError(f"all layers must have centres of one shape [V, D]; in {folder}: {facts}")
    return [result[layer][1] for layer in layers]


def read_optional_kmeans(path: str | os.PathLike | None, layers: Sequence[int]) -> list[Tensor] | None:
    """``read_kmeans``, or None where no path is named."""
    return None if path is None else read_kmeans(path, layers)


def kmeans_layers(folder: str | os.PathLike) -> list[int]:
    """The layers that a k-means folder has centres for, in ascending order.

    Raises:
        FileNotFoundError: there is no such folder, or no k-means in it.
        ValueError: ``kmeans.safetensors`` is broken.
    """
    folder = existing_folder(folder, "k-means")
    ours = folder / "kmeans.safetensors"
    if ours.is_file():
        names = [re.fullmatch(r"layer_(\d+)", name) for name in load_safetensors(ours)]
        layers = sorted(int(name[1]) for name in names if name)
    else:
        layers = sorted(_kmeans_files(folder))
    if not layers:
        raise FileNotFoundError(
            f"no k-means in {folder}: files *_L<layer>.pt, or kmeans.safetensors. Found {first_few(listing(folder))}"
        )
    return layers


def write_kmeans(folder: str | os.PathLike, centres: Mapping[int, Tensor]) -> list[Path]:
    """Write the centres [V, D] of each layer to ``kmeans.safetensors``, as the tensors ``layer_{l}``."""
    tensors = {f"layer_{layer}": value for layer, value in centres.items()}
    return [write_safetensors(Path(folder) / "kmeans.safetensors", tensors)]


def write_released_kmeans(folder: str | os.PathLike, centres: Mapping[int, Tensor], *, name: str) -> list[Path]:
    """Write the centres [V, D] of each layer in the released layout, for programs that read that.

    The files, ``{name}_k{V}_L{l}.pt``, are fitted ``MiniBatchKMeans`` of scikit-learn with float64 centres.

    Raises:
        ValueError: the folder has a ``kmeans.safetensors``, which readers would take instead.
    """
    folder = Path(folder)
    if (folder / "kmeans.safetensors").exists():
        raise ValueError(f"{folder} has a kmeans.safetensors, which readers would take instead: name another folder")
    import joblib
    from sklearn.cluster import MiniBatchKMeans  # here, since importing it takes seconds and draws random numbers

    written = []
    for layer, value in centres.items():
        model = MiniBatchKMeans(n_clusters=len(value))
        # what fit() sets and predict() and transform() ask for
        model.cluster_centers_ = value.detach().cpu().double().numpy()
        model._n_features_out, model.n_features_in_ = value.shape
        model._n_threads = 1
        path = folder / f"{name}_k{len(value)}_L{layer}.pt"
        with whole_file(path) as temporary:
            joblib.dump(model, temporary)
        written.append(path)
    return written


def convert(folder: Path, output: Path) -> list[Path]:
    """FOLDER/*_L<layer>.pt to OUT/kmeans.safetensors"""
    layers = kmeans_layers(folder)
    return write_kmeans(output, dict(zip(layers, read_kmeans(folder, layers), strict=True)))


def _kmeans_files(folder: Path) -> dict[int, list[Path]]:
    files: dict[int, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"(?!\.).*_L(\d+)\.pt", path.name)  # not ._name, which macOS leaves in archives
        if match and path.is_file():
            files.setdefault(int(match[1]), []).append(path)
    return files


def _released_centres(path: Path) -> Tensor:
    model = load_joblib(path)
    name = model.name if isinstance(model, Inert) else type(model).__name__
    if not name.endswith("KMeans"):
        raise ValueError(f"{path} holds no k-means of scikit-learn, but {name}")
    centres = model.attributes.get("cluster_centers_")
    if not isinstance(centres, np.ndarray):
        raise ValueError(f"{path} holds a {name} without centres: was it fitted before it was saved?")
    # a copy in native byte order: the file's arrays are read-only views
    return torch.from_numpy(centres.astype(centres.dtype.newbyteorder("="), order="C"))


CONVERSIONS = {"kmeans": convert}  # what ``python -m models.released convert`` offers
