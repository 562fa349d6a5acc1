"""A trained LiMuSE in as few bytes as its bits: codes of the quantised weights, one after another, and floats."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.limuse.network import LiMuSE
from models.limuse.quantiser import from_codes
from utils.tensor_files import load_metadata, load_safetensors, write_safetensors

FORMAT = "limuse-packed"
VERSION = 1


def write(path: str | os.PathLike, network: LiMuSE, settings: Mapping[str, Any]) -> Path:
    """Write a network whose weights are float, quantised or not.

    ``codes``: uint8; code j of all quantised tensors, flattened, in alphabetical order, is at bits b j .. b j + b - 1,
    lowest first. ``alpha``: float32, in the same order. ``rest``: float32, all other tensors of the network, flattened,
    in alphabetical order. Full precision has ``rest`` alone.

    Args:
        settings: plain values that whoever reads it must share, or may want to know.
    """
    tensors = {}
    if network.quantised:
        names, weights = list(network.quantised_layers()), network.quantised_weights()
        with torch.no_grad():
            codes = dict(zip(names, network.quantiser.codes(weights), strict=True))
        alpha = dict(zip(names, network.quantiser.alpha.detach(), strict=True))
        joined = torch.cat([codes[name].flatten() for name in sorted(names)])
        tensors = {
            "codes": packed_bits(joined.cpu(), network.weight_bits),
            "alpha": torch.stack([alpha[name] for name in sorted(names)]),
        }
    state = network.state_dict()
    rest = [state[name].float().flatten() for name in _names_of_rest(network)]
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "settings": json.dumps({**network.facts(), "activation_bits": network.activation_bits, **settings}),
    }
    return write_safetensors(path, {**tensors, "rest": torch.cat(rest)}, metadata)


def read(path: Path, network: LiMuSE) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a packed file by name, the quantised ones as their hard values; and its settings.

    Args:
        network: says which tensors there are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken, no packed model, or one of another network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    metadata, tensors = load_metadata(path), load_safetensors(path)
    if metadata.get("format") != FORMAT or "rest" not in tensors:
        raise ValueError(f"{path} is no packed model of LiMuSE")
    try:
        version, settings = int(metadata["version"]), dict(json.loads(metadata["settings"]))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is a broken packed model: its settings cannot be read") from error
    if version > VERSION:
        raise ValueError(f"{path} is of version {version}, this program reads up to {VERSION}: update it")
    if ("codes" in tensors) != network.quantised:
        here, there = ("quantised", "in full precision") if network.quantised else ("in full precision", "quantised")
        raise ValueError(f"{path} is {there}, and the recipe {here}: change its key quantised")
    require_same_network(settings, network.facts(), path)
    shapes = {name: x.shape for name, x in network.state_dict().items()}
    layers = sorted(network.quantised_layers()) if network.quantised else []
    state = _divided(tensors["rest"], {name: shapes[name] for name in _names_of_rest(network)}, path)
    if layers:
        state |= _unpacked(tensors, {name: shapes[name] for name in layers}, network.weight_bits, path)
    return state, settings


def require_same_network(there: Mapping[str, Any], here: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Raise a ValueError that names each size of which a file and the recipe say something else."""
    if differing := [f"{key} is {there[key]} in the file, {here[key]} in the recipe" for key in here
                     if key in there and there[key] != here[key]]:  # fmt: skip
        raise ValueError(f"{path} is of another network than the recipe's: {'; '.join(differing)}")


def packed_bits(codes: Tensor, bits: int) -> Tensor:
    """Codes below 2^bits, [n] uint8 -> [ceil(n bits / 8)] uint8."""
    rows = np.unpackbits(codes.numpy()[:, None], axis=1, bitorder="little")[:, :bits]
    return torch.from_numpy(np.packbits(rows.reshape(-1), bitorder="little"))


def unpacked_bits(packed: Tensor, bits: int, count: int) -> Tensor:
    """The first ``count`` codes, uint8."""
    rows = np.unpackbits(packed.numpy(), count=count * bits, bitorder="little").reshape(count, bits)
    return torch.from_numpy(np.packbits(rows, axis=1, bitorder="little")[:, 0])


def _names_of_rest(network: LiMuSE) -> list[str]:
    quantised = network.quantised_layers() if network.quantised else {}
    return sorted(n for n in network.state_dict() if n not in quantised and not n.startswith("quantiser."))


def _unpacked(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], bits: int, path: Path) -> dict:
    count = sum(shape.numel() for shape in shapes.values())
    codes, alpha = tensors.get("codes"), tensors.get("alpha")
    size = -(-count * bits // 8)
    if codes is None or codes.dtype != torch.uint8 or codes.shape != (size,):
        raise ValueError(f"{path}: {count} weights of {bits} bits are {size} bytes of codes: it is of another network")
    if alpha is None or alpha.dtype != torch.float32 or alpha.shape != (len(shapes),):
        raise ValueError(f"{path}: alpha must have {len(shapes)} values: it is of another network")
    flat = _divided(unpacked_bits(codes, bits, count), shapes, path)
    return {name: from_codes(a, flat[name], 2 ** (bits - 1) - 1) for name, a in zip(shapes, alpha, strict=True)}


def _divided(flat: Tensor, shapes: Mapping[str, torch.Size], path: Path) -> dict[str, Tensor]:
    sizes = [shape.numel() for shape in shapes.values()]
    if flat.ndim != 1 or len(flat) != sum(sizes):
        raise ValueError(f"{path} holds {flat.numel()} values where the recipe's network has {sum(sizes)}")
    return {name: x.view(shape) for (name, shape), x in zip(shapes.items(), flat.split(sizes), strict=True)}
