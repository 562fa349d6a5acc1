"""Named tensors in files, read strictly and written whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from utils.errors import first_few
from utils.files import readable, require_file, unwritten, whole_file

_LONGEST_HEADER = 2_000_000  # bytes: of 15,000 tensors and more; the library takes minutes for some millions


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken, or its header is longer than that of any model.
    """
    _require_usual(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}). Is it complete?") from error


def load_metadata(path: Path) -> dict[str, str]:
    """The texts that a safetensors file keeps beside its tensors; raises as ``load_safetensors``."""
    _require_usual(path)
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}). Is it complete?") from error


def _require_usual(path: Path) -> None:
    require_file(path)
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > _LONGEST_HEADER:
        raise ValueError(f"{path} cannot be read as safetensors (a header of {header} bytes). Is it complete?")


def write_safetensors(
    path: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write named tensors to a file that is whole whenever it has its name; returns its path."""
    with whole_file(path) as temporary:
        try:
            save_file(independent(tensors), temporary, dict(metadata) if metadata else None)
        except SafetensorError as error:
            raise unwritten(path, error) from error
        readable(temporary)
    return Path(path)


def independent(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies, none a view of another or of a mapped file: a view would be saved with all it is a view of."""
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def as_tensors(state: Any, path: str | os.PathLike) -> dict[str, Tensor]:
    """The state dict as it is, or a ValueError if it holds anything but named tensors."""
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds no state dict, but a {type(state).__name__}")
    others = [str(n)[:100] for n, v in state.items() if not (isinstance(n, str) and isinstance(v, Tensor))]
    if others:
        raise ValueError(f"{path}: not tensors: {first_few(others)}")
    return dict(state)


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


def existing_folder(folder: str | os.PathLike, what: str) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such {what} folder: {folder}")
    return folder


def listing(folder: Path) -> list[str]:
    return sorted(f"{p.name}/" if p.is_dir() else p.name for p in folder.iterdir()) or ["nothing"]
