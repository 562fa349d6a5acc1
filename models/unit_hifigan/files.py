"""Folders of a unit HiFi-GAN, in the released layout and in ours. Nothing in them can run."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from utils.errors import first_few
from utils.files import write_text
from utils.safe_load import Inert, load_torch
from utils.safe_yaml import load_yaml
from utils.tensor_files import as_tensors, existing_folder, listing, load_safetensors, newer_names, write_safetensors

_GENERATOR = "speechbrain.lobes.models.HifiGAN.UnitHifiganGenerator"
log = logging.getLogger(__name__)


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
    folder = existing_folder(folder, "vocoder")
    ours = (folder / "vocoder.json", folder / "vocoder.safetensors")
    released = (folder / "hyperparams.yaml", folder / "generator.ckpt")
    settings, weights = ours if ours[0].is_file() else released
    if not settings.is_file() or not weights.is_file():
        raise FileNotFoundError(
            f"no vocoder in {folder}: hyperparams.yaml and generator.ckpt are needed, or vocoder.json and "
            f"vocoder.safetensors. Found {first_few(listing(folder))}"
        )
    if (settings, weights) == ours:
        arguments, state = _our_vocoder_arguments(settings), load_safetensors(weights)
    else:
        arguments, state = _released_vocoder_arguments(settings), load_torch(weights)
    return _checked_arguments(arguments, settings), newer_names(as_tensors(state, weights), weights)


def write_vocoder(folder: str | os.PathLike, arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> list[Path]:
    """Write the arguments and the state dict of a ``UnitHifiganGenerator`` as ``vocoder.json`` and ``.safetensors``."""
    text = json.dumps({"generator": "UnitHifiganGenerator", "arguments": dict(arguments)}, indent=1) + "\n"
    weights, settings = Path(folder) / "vocoder.safetensors", Path(folder) / "vocoder.json"
    write_safetensors(weights, state)
    write_text(settings, text)  # last: a folder that has them is complete
    return [weights, settings]


def convert(folder: Path, output: Path) -> list[Path]:
    """FOLDER/hyperparams.yaml and generator.ckpt to OUT/vocoder.json and OUT/vocoder.safetensors"""
    return write_vocoder(output, *read_vocoder(folder))


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


CONVERSIONS = {"vocoder": convert}  # what ``python -m models.released convert`` offers
