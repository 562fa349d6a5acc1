"""The released files of ELLA-V, in both layouts, and this project's checkpoints of it. Nothing in them can run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.dpslm.vocabulary import Vocabulary
from utils import checkpoint
from utils.files import unwritten, whole_file
from utils.safe_load import load_torch
from utils.tensor_files import as_tensors, independent

NETWORK = "network"  # its name in this project's checkpoints
EXPORT = "ella_v.pt"
# key of a recipe -> where a released file has the same
NETWORK_KEYS = {
    "d_model": "dim", "num_layers": "n_layers", "head_dim": "head_dim", "d_ffn": "hidden_dim", "num_heads": "n_heads",
    "num_kv_heads": "n_kv_heads", "rope_theta": "rope_theta",
}  # fmt: skip
TOKEN_KEYS = {
    "num_clusters": "num_phone_types", "num_codes": "num_codec_types", "unit_rate": "phone_token_rate",
    "code_rate": "codec_token_rate",
}  # fmt: skip
NORM_EPS = 1e-6
_OLDER = (("token_embedding.", "tok_embeddings."), ("transformer.", ""), ("prediction_head.", "output."))


@dataclass(frozen=True)
class AcousticFile:
    """What a file of ELLA-V holds.

    Attributes:
        path: of the file.
        sizes: by the keys of a recipe; of a checkpoint of this project, those that it was trained with.
        tokens: name -> id.
        tensors: under their released names.
        provenance: of the units and codes that it was trained on; a released file tells nothing.
    """

    path: str
    sizes: dict[str, Any]
    tokens: Mapping[str, int]
    tensors: dict[str, Tensor]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def require_sizes(self, wanted: Mapping[str, Any]) -> None:
        """Raise a ValueError that names each key of which the recipe and this file say something else."""
        differing = [
            f"{key} is {wanted[key]} in the recipe, {self.sizes[key]} in the file"
            for key in wanted
            if key in self.sizes and self.sizes[key] != wanted[key]
        ]
        if differing:
            raise ValueError(f"{self.path} has other sizes than the recipe: {'; '.join(differing)}")


def read_acoustic(path: str | os.PathLike) -> AcousticFile:
    """A released file (``ella-v-*.pt``), in either layout, or ``best.pth`` or ``last.pth`` of this project.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is unsafe, broken, or something else.
    """
    content = load_torch(path, mmap=True)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds no ELLA-V, but a {type(content).__name__}")
    if content.get("format") == checkpoint.FORMAT:
        return _from_checkpoint(checkpoint.load(path), path)
    state = content.get("model_state", content.get("model"))
    parts = {"model_args": content.get("model_args"), "tokenizer": content.get("tokenizer"), "model_state": state}
    if wrong := [name for name, part in parts.items() if not isinstance(part, Mapping)]:
        raise ValueError(f"{path} is no ELLA-V: {', '.join(wrong)} is missing, or no mapping")
    sizes = {}
    for keys, part in ((NETWORK_KEYS, parts["model_args"]), (TOKEN_KEYS, parts["tokenizer"])):
        lacking = [name for name in keys.values() if type(part.get(name)) not in (int, float)]
        if lacking:
            raise ValueError(f"{path}: these are no numbers, or missing: {', '.join(lacking)}")
        sizes |= {key: part[name] for key, name in keys.items()}
    eps = parts["model_args"].get("norm_eps", NORM_EPS)
    if eps != NORM_EPS:
        raise ValueError(f"{path}: norm_eps is {eps!r}, here it is {NORM_EPS}")
    if parts["tokenizer"].get("tokens_not_to_sandwich"):
        raise ValueError(f"{path}: tokens_not_to_sandwich must be empty, since every unit has its codes and EOP here")
    tokens = parts["tokenizer"].get("token_to_id_dict")
    if not isinstance(tokens, Mapping):
        raise ValueError(f"{path}: tokenizer has no map of tokens, token_to_id_dict")
    tensors = newer_layout(as_tensors(parts["model_state"], path))
    return AcousticFile(os.fspath(path), sizes, tokens, tensors)


def newer_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the older layout under the names of the newer one; those of the newer stay as they are."""
    named = {}
    for name, value in tensors.items():
        for older, newer in _OLDER:
            if name.startswith(older):
                name = newer + name.removeprefix(older)
                break
        named[name] = value
    return named


def _from_checkpoint(content: Mapping[str, Any], path: str | os.PathLike) -> AcousticFile:
    settings, prefix = content.get("settings") or {}, f"{NETWORK}."
    tensors = {n.removeprefix(prefix): v for n, v in content["model"].items() if n.startswith(prefix)}
    names, sizes = settings.get("tokens"), settings.get("acoustic")
    if not tensors or not isinstance(names, list | tuple) or not isinstance(sizes, Mapping):
        raise ValueError(f"{path} is a checkpoint of another system: it holds no ELLA-V")
    tokens = {str(name): i for i, name in enumerate(names)}
    provenance = settings.get("provenance") or {}
    return AcousticFile(os.fspath(path), dict(sizes), tokens, tensors, provenance)


def write_acoustic(
    folder: str | os.PathLike, sizes: Mapping[str, Any], vocabulary: Vocabulary, tensors: Mapping[str, Tensor]
) -> Path:
    """Write ``ella_v.pt`` in the released layout, float32; returns its path.

    Args:
        sizes: by the keys of a recipe, all of ``NETWORK_KEYS`` and ``TOKEN_KEYS``.
        tensors: under their released names.
    """
    path = Path(folder) / EXPORT
    arguments = {name: sizes[key] for key, name in NETWORK_KEYS.items()}
    tokens = {name: sizes[key] for key, name in TOKEN_KEYS.items()}
    content = {
        "model_args": {**arguments, "norm_eps": NORM_EPS, "vocab_size": vocabulary.size, "max_batch_size": 0},
        "tokenizer": {"token_to_id_dict": vocabulary.to_map(), **tokens, "tokens_not_to_sandwich": []},
        "model_state": {name: x.float() for name, x in independent({n: t.cpu() for n, t in tensors.items()}).items()},
    }
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # what torch makes of a disk that is full
            raise unwritten(path, error) from error
    return path
