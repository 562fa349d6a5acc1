"""The released files of SpeechTokenizer, read and written. Nothing in them can run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.speechtokenizer.architecture import write_config
from models.speechtokenizer.network import CodecNetwork
from utils import checkpoint
from utils.errors import first_few
from utils.files import whole_file
from utils.safe_load import load_torch

NETWORK = "codec"  # the network's name in this project's checkpoints
CONFIG, WEIGHTS = "config.json", "SpeechTokenizer.pt"
# Ours -> released, in this order. The public code wraps each convolution twice, and each codebook three times.
_RENAMED = (
    (r"^(encoder|decoder)\.layers\.", r"\1.model."),
    (r"\.(conv|convtr)\.", r".\1.\1."),
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
)
_BOOKS = ("inited", "cluster_size", "embed", "embed_avg")


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """A codec's tensors under their released names (``encoder.model.0.conv.conv.weight_g``, ...).

    Args:
        path: ``SpeechTokenizer.pt``, with either of torch's names for weight norm and with or without a ``module.``
            before all names; a package of the public trainer (``SpeechTokenizerTrainer_00001000``); or a checkpoint of
            this project (``best.pth``, ``last.pth``).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is unsafe or broken, or none of these.
    """
    return parse_weights(load_torch(path, mmap=True), path)


def parse_weights(content: Any, path: str | os.PathLike) -> dict[str, Tensor]:
    """The same from what such a file holds."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds no codec, but a {type(content).__name__}")
    if content.get("format") == checkpoint.FORMAT:
        prefix = f"{NETWORK}."
        own = {n.removeprefix(prefix): v for n, v in content["model"].items() if n.startswith(prefix)}
        if not own:
            raise ValueError(f"{path} is a checkpoint of another system: it holds no {NETWORK}")
        return released_state(own)
    state = content["generator"] if isinstance(content.get("generator"), Mapping) else content
    others = [str(name)[:100] for name, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        found = first_few(others) if others else "nothing"
        raise ValueError(f"{path} is no SpeechTokenizer: a dict of tensors is expected, found {found}")
    named: dict[str, Tensor] = {}
    is_wrapped = all(str(name).startswith("module.") for name in state)
    for name, value in state.items():
        name = str(name).removeprefix("module.") if is_wrapped else str(name)
        for pattern, older in _RENAMED[2:]:
            name = re.sub(pattern, older, name)
        if name in named:
            raise ValueError(f"{path} has {name} twice, under both of torch's names for weight norm")
        named[name] = value
    return named


def adopted_state(tensors: Mapping[str, Tensor], network: CodecNetwork) -> dict[str, Tensor]:
    """The codec's state, and that of discriminators if there are any, of a file of another program.

    Args:
        tensors: of a released file, or of a package of the public trainer, under the keys that lead to them, joined by
            dots.

    Returns:
        ``codec.NAME`` as in ``network``, and ``discriminator.NAME`` as in ``modules.discriminators.Discriminators``.

    Raises:
        ValueError: as ``parse_weights`` and ``own_state``.
    """
    generator = {n.removeprefix("generator."): x for n, x in tensors.items() if n.startswith("generator.")}
    named = parse_weights(generator or dict(tensors), "the file")
    found = {f"{NETWORK}.{name}": x for name, x in own_state(network, named).items()}
    for name, value in tensors.items():
        if name.startswith("discriminators.") and "spec_transform." not in name:  # that one is a window
            found[_own_discriminator(name.replace(".module.", "."), tensors)] = value
    return found


def load_weights(network: CodecNetwork, tensors: Mapping[str, Tensor], path: str | os.PathLike) -> None:
    """Load tensors under their released names, strictly; raises as ``own_state``."""
    own = network.state_dict()
    for name, value in own_state(network, tensors, f"the tensors of {path}").items():
        own[name].copy_(value.to(own[name].dtype))


def own_state(network: CodecNetwork, tensors: Mapping[str, Tensor], what: str = "its tensors") -> dict[str, Tensor]:
    """Tensors under their released names as the network's state.

    Args:
        what: they are, for errors.

    Raises:
        ValueError: tensors that are missing, unexpected, of another shape or not finite, or a quantiser that was never
            initialised; all kinds are told together, and the first few of each listed.
    """
    needed = released_state(network.state_dict())
    problems = []
    for kind, names in (("missing", needed.keys() - tensors.keys()), ("unexpected", tensors.keys() - needed.keys())):
        if names:
            problems.append(f"{len(names)} {kind}: {first_few(sorted(names))}")
    both = sorted(needed.keys() & tensors.keys())
    for kind, names in (
        (
            "of another shape",
            [
                f"{name} {list(tensors[name].shape)} instead of {list(needed[name].shape)}"
                for name in both
                if tensors[name].shape != needed[name].shape
            ],
        ),
        ("not finite (NaN or infinite)", [name for name in both if not tensors[name].isfinite().all()]),
        ("0, so that no training has filled their codebook", [n for n in both if _is_empty_book(n, tensors[n])]),
    ):
        if names:
            problems.append(f"{len(names)} {kind}: {first_few(names)}")
    if problems:
        raise ValueError(f"{what} do not fit this codec's architecture; {'; '.join(problems)}")
    books: dict[str, list[Tensor]] = {name: [] for name in _BOOKS}
    for k in range(network.architecture.n_q):
        for name in _BOOKS:
            value = tensors[_book_name(k, name)]
            books[name].append(value[0] if name == "inited" else value)
    found = {}
    for name in network.state_dict():
        kind = name.removeprefix("quantizer.")
        found[name] = torch.stack(books[kind]) if kind in books else tensors[_released_name(name)]
    return found


def released_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's state under the released names, and in their order."""

    def part(*beginnings: str) -> dict[str, Tensor]:
        return {_released_name(name): value for name, value in state.items() if name.startswith(beginnings)}

    return part("encoder.", "transform.") | _released_books(state) | part("decoder.")


def write_released(folder: str | os.PathLike, network: CodecNetwork) -> list[Path]:
    """Write ``config.json`` and ``SpeechTokenizer.pt`` (float32, weight_g and weight_v) for the public code."""
    folder = Path(folder)
    weights, config = folder / WEIGHTS, folder / CONFIG
    # copies: a view would be saved with all it is a view of
    state = {n: v.detach().cpu().float().clone() for n, v in released_state(network.state_dict()).items()}
    with whole_file(weights) as temporary:
        torch.save(state, temporary)
    write_config(config, network.architecture)  # last: a folder that has it is complete
    return [weights, config]


def _released_name(name: str) -> str:
    for pattern, released in _RENAMED:
        name = re.sub(pattern, released, name)
    return name


def _own_discriminator(name: str, others: Mapping[str, Tensor]) -> str:
    """``discriminators.mpd.discriminators.0.convs.0.weight_g`` of the public trainer, as it is named here."""
    kind, _, rest = name.removeprefix("discriminators.").partition(".discriminators.")
    layer, _, last = rest.rpartition(".")
    # With spectral norm weight_v is another thing, and has its name here too.
    if f"{name.rpartition('.')[0]}.weight_orig" not in others:
        last = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}.get(
            last, last
        )
    layer = layer.removesuffix(".conv")
    if kind == "mpd":
        layer += ".conv"
    return (
        f"discriminator.stft.{layer}.{last}"
        if kind == "mstftd"
        else f"discriminator.{kind}.discriminators.{layer}.{last}"
    )


def _book_name(k: int, name: str) -> str:
    return f"quantizer.vq.layers.{k}._codebook.{name}"


def _released_books(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = {}
    for k in range(len(state["quantizer.inited"])):
        for name in _BOOKS:
            value = state[f"quantizer.{name}"][k]
            named[_book_name(k, name)] = value[None] if name == "inited" else value
    return named


def _is_empty_book(name: str, value: Tensor) -> bool:
    return name.endswith("._codebook.inited") and bool((value == 0).any())
