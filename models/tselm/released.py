"""Reader for the public TSELM checkpoints (``tselm_l.pth``). Nothing in them can run."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils import checkpoint
from utils.errors import first_few
from utils.safe_load import load_torch
from utils.tensor_files import as_tensors, independent, newer_names

# Names under which the published trainer, or a copy of it in another place, pickles its NewBob schedule.
STAND_INS = tuple(
    f"{module}.{name}"
    for module in (
        "scheduler.schedulers",
        "scheduler.scheduler",
        "scheduler.newbob",
        "scheduler.new_bob",
        "scheduler",
        "schedulers",
        "utils.schedulers",
        "utils.scheduler",
        "models.schedulers",
        "speechbrain.nnet.schedulers",
        "__main__",
    )
    for name in ("NewBobScheduler", "NewBob")
)
_WAVLM, _VOCODER = "discrete_ssl.ssl_model.model.", "hifi_gan.model."
_TOLERANCE = 1e-6  # of a tensor's largest value: what a float32 may lose on its way through another format
# Released name -> ours. The published modules wrap each layer once more, and ours have no dropout between ffn's layers.
_RENAMED = (
    (r"embedding\.embedding\.weight", r"mixture_embedding.table.weight"),
    (r"embedding_regi\.embedding\.weight", r"enrolment_embedding.table.weight"),
    (r"attention_mlp\.layers\.([02])\.(\w+)", r"mixture_pooling.score.\1.\2"),
    (r"attention_mlp_regi\.layers\.([02])\.(\w+)", r"enrolment_pooling.score.\1.\2"),
    (r"fusion\.layers\.(\d+)\.self_att\.att\.(.+)", r"cross_attention.layers.\1.attention.\2"),
    (r"fusion\.layers\.(\d+)\.pos_ffn\.ffn\.0\.(\w+)", r"cross_attention.layers.\1.ffn.0.\2"),
    (r"fusion\.layers\.(\d+)\.pos_ffn\.ffn\.3\.(\w+)", r"cross_attention.layers.\1.ffn.2.\2"),
    (r"fusion\.layers\.(\d+)\.norm([12])\.norm\.(\w+)", r"cross_attention.layers.\1.norm\2.\3"),
    (r"fusion\.norm\.norm\.(\w+)", r"cross_attention.norm.\1"),
    (r"film\.linear1\.(\w+)", r"film.scale.\1"),
    (r"film\.linear2\.(\w+)", r"film.shift.\1"),
    (r"fusion_norm\.(\w+)", r"norm.\1"),
    (r"((?:lm|head)\..+)", r"\1"),
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """What a released checkpoint holds.

    Attributes:
        network: the trained tensors, under our names (``mixture_embedding.table.weight``, ...).
        wavlm: the frozen WavLM, under the names of transformers' ``WavLMModel``; empty where left out.
        vocoder: the frozen vocoder, under the names of speechbrain's generator; empty where left out.
        facts: ``epoch``, ``step``, ``error`` (percent), ``cv_log``: those that are there, as plain values.
    """

    network: dict[str, Tensor]
    wavlm: dict[str, Tensor]
    vocoder: dict[str, Tensor]
    facts: dict[str, Any]


def read_checkpoint(path: str | os.PathLike) -> ReleasedCheckpoint:
    """Read a released checkpoint (``tselm_l.pth``). The file is mapped, so only tensors in use take memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is unsafe or broken, or it is no released checkpoint.
    """
    return parse_checkpoint(load_torch(path, stand_ins=STAND_INS, mmap=True), path)


def parse_checkpoint(content: Any, path: str | os.PathLike) -> ReleasedCheckpoint:
    """Sort the content of a released checkpoint, read with ``load_torch(path, stand_ins=STAND_INS)``.

    Args:
        content: a dict with ``model_state_dict``, or that state dict itself; with or without the frozen parts and
            the ``module.`` that DistributedDataParallel puts before every name.
        path: names the file in errors.

    Raises:
        ValueError: this is something else, or has tensors of unknown names; they are listed.
    """
    if isinstance(content, Mapping) and content.get("format") == checkpoint.FORMAT:
        raise ValueError(f"{path} is a checkpoint of this project, not a released one: load it as it is")
    is_bare = isinstance(content, Mapping) and "model_state_dict" not in content
    if not isinstance(content, Mapping) or is_bare and not all(isinstance(v, Tensor) for v in content.values()):
        found = first_few(list(map(str, content))) if is_bare else type(content).__name__
        raise ValueError(f"{path} is no released checkpoint: 'model_state_dict' should be in it. Found {found}")
    state = as_tensors(content if is_bare else content["model_state_dict"], path)
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    network, wavlm, vocoder, unknown = {}, {}, {}, []
    for name, value in state.items():
        if name.startswith(_WAVLM):
            wavlm[name.removeprefix(_WAVLM)] = value
        elif name.startswith(_VOCODER):
            vocoder[name.removeprefix(_VOCODER)] = value
        elif ours := _our_name(name):
            network[ours] = value
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f"{path} has {len(unknown)} tensors that a TSELM does not have: {first_few(unknown)}")
    if not network:
        raise ValueError(f"{path} has no tensor of a TSELM network")
    facts = {} if is_bare else _facts(content)
    return ReleasedCheckpoint(network, newer_names(wavlm, path), newer_names(vocoder, path), facts)


def convert(file: Path, output: Path) -> list[Path]:
    """a released FILE to OUT.pth: the trained network, without the frozen WavLM, the vocoder and the optimizer"""
    released = read_checkpoint(file)
    model = {f"network.{name}": value for name, value in independent(released.network).items()}
    checkpoint.save(output, {"model": model, "facts": released.facts})
    return [output]


def compare_frozen(
    inside: Mapping[str, Tensor], loaded: Mapping[str, Tensor], what: str, path: str | os.PathLike
) -> None:
    """Refuse a checkpoint that was trained with other frozen weights than those loaded from their own folder.

    Two tensors are equal if they differ, in float32, by no more than 1e-6 of the largest value of the loaded one. Both
    namings of weight norm are understood, and a loaded weight that it is folded into. What is inside but not loaded
    (layers above the highest one in use, SpecAugment's ``masked_spec_embed``) is not looked at, and where nothing is
    inside there is nothing to compare.

    Args:
        inside: the frozen tensors in the checkpoint.
        loaded: the tensors in use.
        what: their name in errors: ``"WavLM"``, ``"vocoder"``.
        path: the checkpoint's.

    Raises:
        ValueError: tensors are missing, of another shape, or different; it says which and by how much.
    """
    if not inside:
        log.info("%s carries no %s: it cannot be compared with the one in use", path, what)
        return
    loaded = newer_names(loaded, path)
    inside = _folded(newer_names(inside, path), loaded)
    way_out = f"Use the {what} that it was trained with"
    missing = [name for name in loaded if name not in inside]
    if missing:
        raise ValueError(f"the {what} in {path} lacks {len(missing)} tensors: {first_few(missing)}. {way_out}")
    shapes = [
        f"{name} {list(inside[name].shape)} instead of {list(value.shape)}"
        for name, value in loaded.items()
        if inside[name].shape != value.shape
    ]
    if shapes:
        raise ValueError(
            f"the {what} in {path} has {len(shapes)} tensors of another shape: {first_few(shapes)}. {way_out}"
        )
    differing: dict[str, float] = {}
    for name, value in loaded.items():
        value, other = value.detach().to("cpu", torch.float32), inside[name].detach().to("cpu", torch.float32)
        if value.numel() and not torch.equal(value, other):
            difference = float((value - other).abs().max())
            if not difference <= _TOLERANCE * float(value.abs().max()):  # NaN is a difference too
                differing[name] = difference
    if differing:
        worst = max(differing, key=lambda name: (differing[name] != differing[name], differing[name]))
        raise ValueError(
            f"the {what} in {path} is not the one in use: {len(differing)} of {len(loaded)} tensors differ, "
            f"{worst} the most, by up to {differing[worst]:.3g}. {way_out}"
        )


def _folded(inside: Mapping[str, Tensor], loaded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``inside``, with weight norm (over rows) folded into a weight where ``loaded`` has it so."""
    folded = dict(inside)
    for name in loaded.keys() - inside.keys():
        norm = name.removesuffix("weight") + "parametrizations.weight.original"
        if f"{norm}0" in folded and f"{norm}1" in folded:
            length, direction = (folded.pop(f"{norm}{i}").detach().float().cpu() for i in (0, 1))
            folded[name] = torch._weight_norm(direction, length, 0)
    return folded


def _our_name(name: str) -> str | None:
    for pattern, replacement in _RENAMED:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return None


def _facts(content: Mapping[str, Any]) -> dict[str, Any]:
    facts = {}
    for key in ("epoch", "step", "error", "cv_log"):
        try:
            if content.get(key) is not None:
                facts[key] = _plain_copy(content[key], [10_000])
        except ValueError as error:
            log.info("%s of the checkpoint is left out: %s", key, error)
    return facts


def _plain_copy(value: Any, left: list[int], depth: int = 0) -> Any:
    """Numbers, text, lists and dicts of them; ``left`` counts down, since a file can repeat a value without end."""
    left[0] -= 1
    if left[0] < 0 or depth > 8:
        raise ValueError("too many values")
    if value is None or type(value) in (int, float, bool, str):
        return value
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain_copy(item, left, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_plain_copy(k, left, depth + 1): _plain_copy(v, left, depth + 1) for k, v in value.items()}
    raise ValueError(f"it holds a {type(value).__name__}")


CONVERSIONS = {"checkpoint": convert}  # what ``python -m models.released convert`` offers
