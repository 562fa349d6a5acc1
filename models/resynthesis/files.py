"""The public files of speech resynthesis: ``g_########``, read strictly and written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from models.resynthesis.network import ContourCodec, ResynthesisNetwork
from models.resynthesis.public_config import PublicSettings, compare_config
from utils.checkpoint import FORMAT, load, load_tensors
from utils.errors import first_few
from utils.files import whole_file, write_json
from utils.safe_load import load_torch
from utils.tensor_files import as_tensors, independent

VOCODER = "vocoder"  # the networks' names in our checkpoints
QUANTIZER = "quantizer"
_OURS = ("k_sum", "k_elem", "inited")  # what our codebooks hold beside the public ones
# our name -> public name, of the beginnings of tensors' names
_BEGINNINGS = (
    ("generator.network.upsampler.", "ups."),
    ("generator.network.", ""),
    ("code_codec.encoder.", "code_encoder.level_blocks.0."),
    ("code_codec.vq.", "code_vq.level_blocks.0."),
    ("f0_codec.encoder.", "encoder.level_blocks.0."),
    ("f0_codec.vq.", "vq.level_blocks.0."),
    ("quantizer.encoder.", "quantizer.encoder.level_blocks.0."),
    ("quantizer.vq.", "quantizer.vq.level_blocks.0."),
    ("quantizer.decoder.model.", "quantizer.decoder.level_blocks.0.model."),
)
_WEIGHT_NORM = (("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v"))


def public_name(name: str) -> str:
    """The public name of a tensor of ``ResynthesisNetwork``."""
    for ours, public in _BEGINNINGS:
        if name.startswith(ours):
            name = public + name.removeprefix(ours)
            break
    for ours, public in _WEIGHT_NORM:
        if name.endswith(ours):
            return name.removesuffix(ours) + public
    return name


# ---- reading ---------------------------------------------------------------------------------------------------------


def find_generator(path: str | os.PathLike) -> Path:
    """The file itself, or the last ``g_########`` of a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    found = sorted(p for p in path.iterdir() if re.fullmatch(r"g_\d{8}", p.name) and p.is_file())
    if not found:
        raise FileNotFoundError(f"no g_######## in {path}: the folder of a generator, or its file, is needed")
    return found[-1]


def read_generator(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """The tensors of a public ``g_########``, under their names there.

    Raises:
        OSError, ValueError: it cannot be read, or holds no ``generator``.
    """
    content = load_torch(path)
    if not isinstance(content, dict) or "generator" not in content:
        raise ValueError(f"{path} is no generator: a dict with the key generator is expected")
    return as_tensors(content["generator"], path)


def is_public(path: str | os.PathLike) -> bool:
    """Whether a checkpoint is in the public form: a folder, or a file without our mark."""
    if os.path.isdir(path):
        return True
    content = load_torch(path, mmap=True)
    return not (isinstance(content, dict) and content.get("format") == FORMAT)


def network_tensors(network: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A public state under the network's own names; what it does not have keeps its public name.

    Weight norm may be spelled in either of torch's ways, or be folded into a plain weight. Codebooks go on as if all
    of their codes had a count of 1.
    """
    needed = network.state_dict()
    ours = {public_name(name): name for name in needed}
    found: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        name = _older_norm(name)
        if name.endswith(".weight") and f"{name}_v" in ours and value.ndim == 3:
            found[ours[f"{name}_g"]] = value.flatten(1).norm(dim=1)[:, None, None]
            found[ours[f"{name}_v"]] = value
        else:
            found[ours.get(name, name)] = value
    for name in [name for name in found if name.endswith("vq.k")]:
        rows, begin = found[name], name.removesuffix("k")
        found |= {
            f"{begin}k_sum": rows.clone(),
            f"{begin}k_elem": torch.ones(len(rows)),
            f"{begin}inited": torch.ones(()),
        }
    return found


def _older_norm(name: str) -> str:
    for newer, older in _WEIGHT_NORM:
        if name.endswith(f".{newer}"):
            return name.removesuffix(newer) + older
    return name


def load_public(network: ResynthesisNetwork, path: str | os.PathLike, *, public: PublicSettings) -> None:
    """Load a public generator into a network; its ``config.json``, where there is one, must say what the recipe says.

    Raises:
        OSError, ValueError: what is missing, too much, of another shape or another setting, by name.
    """
    file = find_generator(path)
    compare_config(file.parent / "config.json", public.values)
    tensors = network_tensors(network, read_generator(file))
    load_tensors({VOCODER: network}, {f"{VOCODER}.{name}": x for name, x in tensors.items()}, file)


def make_f0_quantiser(
    *,
    f0_mode: str,
    f0_quantizer_path: str | os.PathLike | None,
    f0_codes: int,
    f0_dim: int,
    f0_width: int,
    f0_depth: int,
    f0_growth: int,
    f0_strides: Sequence[int],
    mu: float = 0.99,
    threshold: float = 1.0,
) -> ContourCodec | None:
    """The F0 quantiser that a vocoder's recipe asks for, with its weights if they are named; None without F0 codes."""
    if f0_mode not in ("quantised", "learned"):
        return None
    made = ContourCodec(
        codes=f0_codes, dim=f0_dim, width=f0_width, depth=f0_depth, growth=f0_growth, strides=f0_strides, mu=mu,
        threshold=threshold, with_decoder=f0_mode == "quantised",
    )  # fmt: skip
    made.loaded_from = None
    if f0_quantizer_path is not None and f0_mode == "quantised":
        load_quantiser(made, f0_quantizer_path)
        made.loaded_from = os.fspath(f0_quantizer_path)
    return made


def make_unit_encoder(
    *,
    unit_mode: str,
    num_units: int,
    unit_strides: Sequence[int],
    unit_dim: int,
    unit_width: int,
    unit_depth: int,
    unit_growth: int,
    mu: float = 0.99,
    threshold: float = 1.0,
) -> ContourCodec | None:
    """The encoder of learned units; None where units are given."""
    if unit_mode not in ("codes", "learned"):
        raise ValueError(f"unit_mode must be codes or learned, got {unit_mode!r}")
    if unit_mode == "codes":
        return None
    return ContourCodec(
        codes=num_units, dim=unit_dim, width=unit_width, depth=unit_depth, growth=unit_growth, strides=unit_strides,
        mu=mu, threshold=threshold, with_decoder=False,
    )  # fmt: skip


def load_quantiser(quantiser: ContourCodec, path: str | os.PathLike) -> None:
    """Load the weights of an F0 quantiser: a public file, a folder of one, or our checkpoint.

    Raises:
        OSError, ValueError: it cannot be read, or is of other sizes.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such F0 quantiser: {path}")
    if is_public(path):
        file = find_generator(path)
        tensors = quantiser_tensors(quantiser, read_generator(file))
    else:
        file, prefix = Path(path), f"{QUANTIZER}."
        saved = load(path)["model"]
        tensors = {name.removeprefix(prefix): x for name, x in saved.items() if name.startswith(prefix)}
        if not tensors:
            raise ValueError(f"{path} is no checkpoint of an F0 quantiser: it holds {first_few(sorted(saved))}")
    load_tensors({QUANTIZER: quantiser}, {f"{QUANTIZER}.{name}": x for name, x in tensors.items()}, file)


def quantiser_tensors(quantiser: ContourCodec, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The public state of an F0 quantiser under its own names."""
    wrapped = torch.nn.Module()
    wrapped.quantizer = quantiser
    found = network_tensors(wrapped, {f"quantizer.{name}": x for name, x in state.items()})
    return {name.removeprefix("quantizer."): x for name, x in found.items()}


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_generator(
    folder: Path, state: Mapping[str, torch.Tensor], *, step: int, config: Mapping[str, Any]
) -> list[Path]:
    """Write ``g_%08d`` and ``config.json``, as public code reads them; returns the files."""
    path = folder / f"g_{step:08d}"
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        torch.save({"generator": independent(state)}, file)
    write_json(folder / "config.json", dict(config))
    return [path, folder / "config.json"]


def public_state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A network's tensors under the public names, without what only our codebooks hold."""
    return {
        public_name(name): value.cpu()
        for name, value in network.state_dict().items()
        if name.rpartition(".")[2] not in _OURS
    }
