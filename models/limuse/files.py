"""Trained weights of LiMuSE: released checkpoints, released whole models, this project's, and packed ones.

Nothing in them can run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.limuse import packing
from models.limuse.network import LiMuSE
from utils import checkpoint
from utils.safe_load import Inert, load_torch
from utils.tensor_files import as_tensors

NETWORK = "network"  # its name in this project's checkpoints
THRESHOLDS = "bias.npy"
_MODEL = "LiMuSE.LiMuSE"
_LAYERS = (
    "GlobalLayerNorm", "CumulativeLayerNorm", "Conv1D", "Conv1D_Q", "ConvTrans1D", "DepthConv1d", "DepthConv1d_Q",
    "GC_TCN", "GC_TCN_Q", "TAC", "TAC_Q", "TCN", "TCN_Q",
)  # fmt: skip
# What a pickled whole model is made of.
_STAND_INS = (
    _MODEL,
    *(f"{module}.{name}" for module in ("LiMuSE", "utils") for name in _LAYERS),
    *(f"{c.__module__}.{c.__name__}" for c in vars(torch.nn.modules).values() if isinstance(c, type)),
    "builtins.set",
)
_WRONG_PRECISION = {
    True: "in full precision, and the recipe quantised: set quantised=false, or train its second stage with --init",
    False: "quantised, and the recipe in full precision: set quantised=true",
}
_DEEPEST = 20  # a whole model is five modules deep


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """What a file holds.

    Attributes:
        state: the network's tensors by their released names, with ``quantiser.alpha``, ``.beta`` and ``.thresholds`` of
            a quantised one; of a packed file the hard weights, and no quantiser.
        settings: of its training, as far as the file tells.
        is_packed: it holds codes, not float weights.
    """

    state: dict[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    is_packed: bool = False


def load_weights(
    network: LiMuSE, path: str | os.PathLike, *, thresholds_path: str | os.PathLike | None = None
) -> dict[str, Any]:
    """Load trained weights into a network, strictly; returns what the file tells of its training.

    Of a packed file the network gets its hard weights, and has no quantiser from then on.

    Args:
        thresholds_path: of a released quantised checkpoint; None: ``bias.npy`` beside it.

    Raises:
        FileNotFoundError: there is no such file, or no thresholds.
        ValueError: it is broken, holds code, or does not fit the network; what does not fit is named.
    """
    trained = read_trained(path, network, thresholds_path=thresholds_path)
    if not trained.is_packed:
        if ("quantiser.alpha" in trained.state) != network.quantised:
            raise ValueError(f"{path} is {_WRONG_PRECISION[network.quantised]}")
        packing.require_same_network(trained.settings, network.facts(), path)
    bits = network.activation_bits
    if network.quantised and trained.settings.get("activation_bits", bits) != bits:
        there = trained.settings["activation_bits"]
        log.warning("%s was trained with activation_bits %s, here they are %s", path, there, bits)
    if trained.is_packed:
        network.quantiser = None
    checkpoint.load_tensors({NETWORK: network}, checkpoint.flatten({NETWORK: trained.state}), path)
    return trained.settings


def read_trained(
    path: str | os.PathLike, network: LiMuSE, *, thresholds_path: str | os.PathLike | None = None
) -> Trained:
    """What is in a file of trained weights; the network says what a packed one is divided into.

    Raises:
        FileNotFoundError, ValueError: as ``load_weights``.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        state, settings = packing.read(path, network)
        return Trained(state, settings, is_packed=network.quantised)
    content = _load(path)
    if isinstance(content, Mapping) and content.get("format") == checkpoint.FORMAT:
        tensors = {name.removeprefix(f"{NETWORK}."): x for name, x in content["model"].items()}
        return Trained(tensors, dict(content.get("settings") or {}))
    return Trained(released_state(content, path, thresholds_path=thresholds_path, steps=network.steps))


def released_state(
    content: Any, path: Path, *, thresholds_path: str | os.PathLike | None, steps: int
) -> dict[str, Tensor]:
    """The tensors of a released checkpoint, or whole model, as the network here names them.

    Args:
        content: of the file.
        path: names it, and says where the thresholds lie.
        steps: thresholds of a tensor, 2 m; 0: none are wanted.
    """
    if isinstance(content, Inert) and content.name == _MODEL:
        return _gathered(content, path)
    if not isinstance(content, Mapping) or "model_state_dict" not in content:
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{path} is no checkpoint of LiMuSE: 'model_state_dict' should be in it. Found {found}")
    state = as_tensors(content["model_state_dict"], path)
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    scales = {name: _scales(content.get(name), name, path) for name in ("alpha", "beta")}
    if len(scales["alpha"]) != len(scales["beta"]):
        raise ValueError(f"{path} has {len(scales['alpha'])} values of alpha and {len(scales['beta'])} of beta")
    if not len(scales["alpha"]):
        return state
    state |= {f"quantiser.{name}": values for name, values in scales.items()}
    if steps:
        shape = (len(scales["alpha"]), steps)
        state["quantiser.thresholds"] = read_thresholds(path, thresholds_path, shape=shape)
    return state


def read_thresholds(path: Path, given: str | os.PathLike | None, *, shape: tuple[int, int]) -> Tensor:
    """The thresholds [nq, 2m] that belong to a released checkpoint.

    Raises:
        FileNotFoundError: neither ``given`` nor a ``bias.npy`` beside the checkpoint.
        ValueError: it is no array of numbers, of another shape, or a row is not in order.
    """
    place = path.parent / THRESHOLDS if given is None else Path(given)
    if not place.is_file():
        raise FileNotFoundError(
            f"no such file: {place}. The thresholds of {path} are not in it, but in {THRESHOLDS} of the folder of its "
            "training's log: put it beside the checkpoint, or name it with --override thresholds_path=FILE"
        )
    try:
        with open(place, "rb") as file:
            found = np.load(file, allow_pickle=False)
    except Exception as error:  # a broken file raises almost anything
        raise ValueError(f"{place} cannot be read as an array of numbers ({str(error)[:200]})") from error
    if found.dtype.kind != "f" or found.shape != shape:
        raise ValueError(
            f"{place} should have {shape[1]} thresholds for each of the {shape[0]} quantised tensors of {path}; it is "
            f"{found.dtype} {list(found.shape)}: it belongs to another checkpoint"
        )
    thresholds = torch.from_numpy(found.astype(np.float32))
    if not bool(thresholds.isfinite().all()) or bool((thresholds.diff(dim=1) < 0).any()):
        raise ValueError(f"{place} has rows that do not ascend, so they are no thresholds")
    return thresholds


def _load(path: Path) -> Any:
    """The content of a torch file: a checkpoint, or the record of a pickled model."""
    content = load_torch(path, stand_ins=_STAND_INS)
    return content if isinstance(content, Inert) else checkpoint.checked(content, path)


def _scales(values: Any, name: str, path: Path) -> Tensor:
    """[nq] of a list of single values."""
    values = [] if values is None else values
    if not isinstance(values, list | tuple) or not all(isinstance(x, Tensor) and x.numel() == 1 for x in values):
        raise ValueError(f"{path}: {name} must be a list of tensors with one value each")
    return torch.cat([x.reshape(1).float() for x in values]) if values else torch.zeros(0)


def _gathered(module: Inert, path: Path, prefix: str = "", depth: int = 0) -> dict[str, Tensor]:
    """The parameters of a pickled module and of those in it, by name."""
    found: dict[str, Tensor] = {}
    if depth > _DEEPEST:
        raise ValueError(f"{path} holds modules that are nested too deeply")
    for name, value in _items(module, "_parameters", path):
        if isinstance(value, Tensor):
            found[prefix + name] = value.detach()
    for name, part in _items(module, "_modules", path):
        if isinstance(part, Inert):
            found |= _gathered(part, path, f"{prefix}{name}.", depth + 1)
    return found


def _items(module: Inert, kind: str, path: Path) -> list[tuple[str, Any]]:
    held = module.attributes.get(kind, {})
    if not isinstance(held, Mapping):
        raise ValueError(f"{path} is no whole model of LiMuSE: its {kind} are no mapping")
    return [(str(name), value) for name, value in held.items()]
