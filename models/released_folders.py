"""Readers for the public k-means and vocoder folders, in the released layouts and in ours. Nothing in them can run."""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from utils.errors import first_few
from utils.safe_joblib import load_joblib
from utils.safe_load import Inert, load_torch
from utils.safe_yaml import load_yaml

_GENERATOR = "speechbrain.lobes.models.HifiGAN.UnitHifiganGenerator"
log = logging.getLogger(__name__)


def read_kmeans(folder: str | os.PathLike, layers: Sequence[int]) -> list[Tensor]:
    """Read the cluster centres of some layers.

    Args:
        folder: holds one ``*_L{l}.pt`` a layer, a scikit-learn k-means saved by joblib, or our ``kmeans.safetensors``
            with the tensors ``layer_{l}``. Where both are there, ours counts.
        layers: indices of the WavLM layers.

    Returns:
        One float32 [V, D] a layer, in the order of ``layers``. Centres in float64 are rounded.

    Raises:
        FileNotFoundError: there is no such folder, or it lacks files for some layers.
        ValueError: a layer with two files, a file that is unsafe or broken, centres that are not finite or differ
            in shape between layers.
    """
    folder = _existing_folder(folder, "k-means")
    ours = folder / "kmeans.safetensors"
    if ours.is_file():
        stored = _load_safetensors(ours)
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
                f"kmeans.safetensors. Found {first_few(_listing(folder))}"
            )
        twice = [
            f"layer {layer}: {first_few([f.name for f in files[layer]])}" for layer in layers if len(files[layer]) > 1
        ]
        if twice:
            raise ValueError(f"more than one k-means for a layer in {folder}; keep one. {'; '.join(twice)}")
        found = {layer: (files[layer][0], _released_centres(files[layer][0])) for layer in layers}
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


def read_vocoder(folder: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a unit HiFi-GAN: the released ``hyperparams.yaml`` and ``generator.ckpt``, or ours.

    Where ``vocoder.json`` (with ``vocoder.safetensors``) is there too, it counts.

    Returns:
        The arguments of speechbrain's ``UnitHifiganGenerator``, all of them, and its state dict, with weight norm
        under torch's newer names (``parametrizations.weight.original0``).

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing in it.
        ValueError: a file is unsafe or broken, or an argument is missing, unknown or of another type.
    """
    folder = _existing_folder(folder, "vocoder")
    ours = (folder / "vocoder.json", folder / "vocoder.safetensors")
    released = (folder / "hyperparams.yaml", folder / "generator.ckpt")
    settings, weights = ours if ours[0].is_file() else released
    if not settings.is_file() or not weights.is_file():
        raise FileNotFoundError(
            f"no vocoder in {folder}: hyperparams.yaml and generator.ckpt are needed, or vocoder.json and "
            f"vocoder.safetensors. Found {first_few(_listing(folder))}"
        )
    if (settings, weights) == ours:
        arguments, state = _our_vocoder_arguments(settings), _load_safetensors(weights)
    else:
        arguments, state = _released_vocoder_arguments(settings), load_torch(weights)
    return _checked_arguments(arguments, settings), newer_names(as_tensors(state, weights), weights)


def newer_names(state: Mapping[str, Tensor], path: str | os.PathLike) -> dict[str, Tensor]:
    """Weight norm under the names of torch.nn.utils.parametrizations, whichever of the two torch wrote."""
    named: dict[str, Tensor] = {}
    for name, value in state.items():
        for older, newer in (("weight_g", "original0"), ("weight_v", "original1")):
            if name.endswith(f".{older}"):
                name = f"{name.removesuffix(older)}parametrizations.weight.{newer}"
        if name in named:
            raise ValueError(f"{path} has {name} twice, under both of torch's names for weight norm")
        named[name] = value
    return named


def as_tensors(state: Any, path: str | os.PathLike) -> dict[str, Tensor]:
    """The state dict as it is, or a ValueError if it holds anything but named tensors."""
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds no state dict, but a {type(state).__name__}")
    others = [str(n)[:100] for n, v in state.items() if not (isinstance(n, str) and isinstance(v, Tensor))]
    if others:
        raise ValueError(f"{path}: not tensors: {first_few(others)}")
    return dict(state)


def kmeans_layers(folder: str | os.PathLike) -> list[int]:
    """The layers that a k-means folder has centres for, in ascending order.

    Raises:
        FileNotFoundError: there is no such folder, or no k-means in it.
        ValueError: ``kmeans.safetensors`` is broken.
    """
    folder = _existing_folder(folder, "k-means")
    ours = folder / "kmeans.safetensors"
    if ours.is_file():
        names = [re.fullmatch(r"layer_(\d+)", name) for name in _load_safetensors(ours)]
        layers = sorted(int(name[1]) for name in names if name)
    else:
        layers = sorted(_kmeans_files(folder))
    if not layers:
        raise FileNotFoundError(
            f"no k-means in {folder}: files *_L<layer>.pt, or kmeans.safetensors. Found {first_few(_listing(folder))}"
        )
    return layers


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


def _our_vocoder_arguments(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["arguments"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not the settings of a vocoder: {error!r}"[:500]) from error


def _released_vocoder_arguments(path: Path) -> dict[str, Any]:
    settings = load_yaml(path, packages=("speechbrain", "torch", "torchaudio"))
    generator = settings.get("generator")
    if not isinstance(generator, Inert) or generator.name != _GENERATOR:
        raise ValueError(f"{path} must have 'generator: !new:{_GENERATOR}', got {generator!r}"[:500])
    ignored = [key for key, value in settings.items() if isinstance(value, Inert | dict) and key != "generator"]
    if ignored:
        log.info("%s: %s not needed and not built", path, first_few(ignored))
    arguments = dict(generator.attributes)
    older = arguments.pop("num_embeddings", None)  # speechbrain's name of vocab_size until 1.0
    if older is not None and arguments.setdefault("vocab_size", older) != older:
        raise ValueError(f"{path}: num_embeddings {older!r} contradicts vocab_size {arguments['vocab_size']!r}")
    if "vocab_size" not in arguments and "num_embeddings" in settings:
        arguments["vocab_size"] = settings["num_embeddings"]
    if type(arguments.get("resblock_type")) is int:
        # speechbrain compares with the text "1", and for the number 1 silently builds the other block
        log.warning("%s: resblock_type is a number; read as the text %r", path, str(arguments["resblock_type"]))
        arguments["resblock_type"] = str(arguments["resblock_type"])
    return arguments


def _checked_arguments(given: dict[str, Any], path: Path) -> dict[str, Any]:
    """All arguments of the generator: those given, and speechbrain's defaults for the others."""
    from speechbrain.lobes.models.HifiGAN import UnitHifiganGenerator  # here, since it takes seconds to import

    known = dict(inspect.signature(UnitHifiganGenerator).parameters)
    required = [name for name, p in known.items() if p.default is inspect.Parameter.empty]
    problems = [f"{name} is unknown" for name in given if name not in known]
    problems += [f"{name} is missing" for name in required if name not in given]
    for name in filter(known.__contains__, given):
        if name not in required:
            kind = type(known[name].default)
        elif name == "resblock_type":
            kind = str
        else:
            kind = list if name.endswith(("_sizes", "_factors")) else int
        value = given[name]
        if isinstance(value, Inert):
            problems.append(f"{name} is {' '.join(map(str, (value.name, *value.arguments)))}, which is not a value")
        elif type(value) is not kind and not (kind is float and type(value) is int) or not _is_plain(value):
            problems.append(f"{name} must be {kind.__name__}, got {value!r}"[:200])
    if given.get("resblock_type") not in ("1", "2", None):
        problems.append(f'resblock_type must be "1" or "2", got {given["resblock_type"]!r}')
    if problems:
        raise ValueError(f"{path}: arguments of {_GENERATOR.rpartition('.')[2]}: {first_few(problems)}")
    return {name: given.get(name, parameter.default) for name, parameter in known.items()}


def _is_plain(value: Any) -> bool:
    """A number, text or truth value, or numbers in a list, or in lists in a list."""
    if type(value) is not list:
        return type(value) in (int, float, bool, str)
    rows = [row if type(row) is list else [row] for row in value]
    return bool(rows) and all(type(x) is int for row in rows for x in row)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}). Is it complete?") from error


def _existing_folder(folder: str | os.PathLike, what: str) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such {what} folder: {folder}")
    return folder


def _listing(folder: Path) -> list[str]:
    return sorted(f"{p.name}/" if p.is_dir() else p.name for p in folder.iterdir()) or ["nothing"]
