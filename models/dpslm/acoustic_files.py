"""The released files of ELLA-V, in both layouts, and this project's checkpoints of it. Nothing in them can run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
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
from models.dpslm.vocabulary import SPECIAL, Vocabulary
from utils.tensor_files import as_tensors

EXPORT = "ella_v.pt"
KIND = "acoustic"  # of a checkpoint's settings, what holds the sizes
# key of a recipe -> where the ``tokenizer`` of a released file has the same
TOKEN_KEYS = {
    "num_clusters": "num_phone_types", "num_codes": "num_codec_types", "unit_rate": "phone_token_rate",
    "code_rate": "codec_token_rate",
}  # fmt: skip
_OLDER = (("token_embedding.", "tok_embeddings."), ("transformer.", ""), ("prediction_head.", "output."))


@dataclass(frozen=True, kw_only=True)
class AcousticFile(LanguageFile):
    """What a file of ELLA-V holds.

    Attributes:
        tokens: name -> id.
    """

    tokens: Mapping[str, int]

    @property
    def vocab_size(self) -> int:
        return len(SPECIAL) + self.sizes["num_clusters"] + self.sizes["num_codes"]


def read_acoustic(path: str | os.PathLike) -> AcousticFile:
    """A released file (``ella-v-*.pt``), in either layout, or ``best.pth`` or ``last.pth`` of this project.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is unsafe, broken, or something else.
    """
    content = read_content(path, "ELLA-V")
    if is_checkpoint(content):
        return _from_checkpoint(content, path)
    state = content.get("model_state", content.get("model"))
    parts = {"model_args": content.get("model_args"), "tokenizer": content.get("tokenizer"), "model_state": state}
    if wrong := [name for name, part in parts.items() if not isinstance(part, Mapping)]:
        raise ValueError(f"{path} is no ELLA-V: {', '.join(wrong)} is missing, or no mapping")
    sizes = network_sizes(parts["model_args"], path) | numbers(parts["tokenizer"], TOKEN_KEYS, path)
    if parts["tokenizer"].get("tokens_not_to_sandwich"):
        raise ValueError(f"{path}: tokens_not_to_sandwich must be empty, since every unit has its codes and EOP here")
    tokens = parts["tokenizer"].get("token_to_id_dict")
    if not isinstance(tokens, Mapping):
        raise ValueError(f"{path}: tokenizer has no map of tokens, token_to_id_dict")
    tensors = newer_layout(as_tensors(parts["model_state"], path))
    return AcousticFile(path=os.fspath(path), sizes=sizes, tokens=tokens, tensors=tensors)


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
    settings, sizes, tensors = of_checkpoint(content, path, kind=KIND, what="ELLA-V")
    names = settings.get("tokens")
    if not isinstance(names, list | tuple):
        raise ValueError(f"{path} is a broken checkpoint of ELLA-V: it has no map of tokens")
    return AcousticFile(
        path=os.fspath(path), sizes=sizes, tensors=tensors, tokens={str(name): i for i, name in enumerate(names)},
        provenance=settings.get("provenance") or {},
    )  # fmt: skip


def write_acoustic(
    folder: str | os.PathLike, sizes: Mapping[str, Any], vocabulary: Vocabulary, tensors: Mapping[str, Tensor]
) -> Path:
    """Write ``ella_v.pt`` in the released layout, float32; returns its path.

    Args:
        sizes: by the keys of a recipe, all of ``NETWORK_KEYS`` and ``TOKEN_KEYS``.
        tensors: under their released names.
    """
    tokens = {name: sizes[key] for key, name in TOKEN_KEYS.items()}
    content = {
        "model_args": model_args(sizes, vocab_size=vocabulary.size, max_batch_size=0),
        "tokenizer": {"token_to_id_dict": vocabulary.to_map(), **tokens, "tokens_not_to_sandwich": []},
        "model_state": as_float32(tensors),
    }
    return write_released(Path(folder) / EXPORT, content)
