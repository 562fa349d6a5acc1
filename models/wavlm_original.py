"""WavLM's original files (``WavLM-Large.pt``: cfg and state dict of fairseq's kind) as transformers' model.

Nothing in them can run, also not the expression that their configuration holds as text.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import WavLMConfig, WavLMModel

from utils.errors import first_few
from utils.safe_load import load_torch
from utils.tensor_files import as_tensors, newer_names

_MOST = 100  # convolutions; also of each part of the expression, or repetitions of repetitions would fill the memory
_LONGEST = 1000  # characters of the expression
_LARGEST = 65536  # number of a file's configuration
_NUMBERS = (
    "encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads", "conv_pos",
    "conv_pos_groups", "num_buckets", "max_distance",
)  # fmt: skip
_NOT_USED = frozenset({"mask_emb"})  # of its training alone
_ATTENTION = {
    "grep_linear": "gru_rel_pos_linear", "grep_a": "gru_rel_pos_const", "relative_attention_bias": "rel_attn_embed",
}  # fmt: skip


def conv_layers(text: object) -> list[tuple[int, int, int]]:
    """Channels, kernel and stride of each convolution, of an expression such as ``[(512,10,5)] + [(512,3,2)] * 4``.

    Raises:
        ValueError: it is anything but lists of tuples of three numbers above 0, joined by + and repeated by ``*``.
    """

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.List | ast.Tuple):
            found = [value(one) for one in node.elts]
            return tuple(found) if isinstance(node, ast.Tuple) else found
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
            one, other = value(node.left), value(node.right)
            if isinstance(node.op, ast.Add) and isinstance(one, list) and isinstance(other, list):
                if len(one) + len(other) <= _MOST:
                    return one + other
            if isinstance(node.op, ast.Mult) and {type(one), type(other)} == {list, int}:
                some, times = (one, other) if isinstance(one, list) else (other, one)
                if 0 < times <= _MOST and len(some) * times <= _MOST:
                    return some * times
        raise ValueError

    try:
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise ValueError
        found = value(ast.parse(text.strip(), mode="eval").body)
        if isinstance(found, list) and 0 < len(found) <= _MOST and all(_is_layer(layer) for layer in found):
            return found
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    raise ValueError(
        f"conv_feature_layers must be lists of (channels, kernel, stride), joined by + and repeated by *, got "
        f"{str(text)[:100]!r}"
    )


def load_original(path: str | os.PathLike, *, highest: int) -> tuple[WavLMModel, int]:
    """The model up to layer ``highest``, and the number of layers that it has in all.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is unsafe, broken, of another kind, or has tensors that are missing, unexpected, misshaped or
            not finite.
    """
    content = load_torch(path, mmap=True)
    if not isinstance(content, Mapping) or not all(isinstance(content.get(key), Mapping) for key in ("cfg", "model")):
        raise ValueError(f"{path} is no original WavLM: a mapping with cfg and model is expected")
    state = newer_names(as_tensors(content["model"], path), path)
    config = _config(content["cfg"], state, path)
    total = config.num_hidden_layers
    if highest > total:
        raise ValueError(f"{path} has {total} layers, layer {highest} was asked for")
    config.num_hidden_layers = highest
    try:
        with torch.device("meta"):  # shapes alone, however large: what does not fit the tensors takes no memory
            model = WavLMModel(config)
    except ValueError as error:
        raise ValueError(f"{path}: the sizes of its cfg do not fit together: {error}") from error
    wanted = {_original_name(name): name for name in model.state_dict()}
    above = re.compile(r"encoder\.layers\.(\d+)\.")
    kept = {n: x for n, x in state.items() if not ((m := above.match(n)) and highest <= int(m[1]) < total)}
    if "post_extract_proj.weight" not in kept and config.conv_dim[-1] == config.hidden_size:
        kept["post_extract_proj.weight"] = torch.eye(config.hidden_size)
        kept["post_extract_proj.bias"] = torch.zeros(config.hidden_size)
    _require_fitting(wanted, kept, model.state_dict(), path)
    model.load_state_dict({wanted[n]: kept[n].to(torch.float32, copy=True) for n in wanted}, assign=True)
    return model.eval(), total


def _is_layer(layer: object) -> bool:
    return isinstance(layer, tuple) and len(layer) == 3 and all(type(n) is int and 0 < n <= _LARGEST for n in layer)


def _config(cfg: Mapping[str, Any], state: Mapping[str, Tensor], path: str | os.PathLike) -> WavLMConfig:
    if lacking := [name for name in _NUMBERS if type(cfg.get(name)) is not int or not 0 < cfg[name] <= _LARGEST]:
        raise ValueError(f"{path}: in cfg these are no numbers from 1 to {_LARGEST}, or missing: {', '.join(lacking)}")
    if cfg.get("extractor_mode") != "layer_norm" or not cfg.get("layer_norm_first"):
        raise ValueError(
            f"{path}: extractor_mode must be layer_norm and layer_norm_first True, as in WavLM-Large, got "
            f"{cfg.get('extractor_mode')!r} and {cfg.get('layer_norm_first')!r}"
        )
    try:
        layers = conv_layers(cfg.get("conv_feature_layers"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    channels, kernels, strides = zip(*layers, strict=True)
    return WavLMConfig(
        hidden_size=cfg["encoder_embed_dim"],
        intermediate_size=cfg["encoder_ffn_embed_dim"],
        num_attention_heads=cfg["encoder_attention_heads"],
        num_hidden_layers=cfg["encoder_layers"],
        conv_dim=channels,
        conv_kernel=kernels,
        conv_stride=strides,
        conv_bias="feature_extractor.conv_layers.0.0.bias" in state,
        num_conv_pos_embeddings=cfg["conv_pos"],
        num_conv_pos_embedding_groups=cfg["conv_pos_groups"],
        num_buckets=cfg["num_buckets"],
        max_bucket_distance=cfg["max_distance"],
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
    )


def _original_name(name: str) -> str:
    """Of a tensor of transformers' model."""
    if name.startswith("feature_extractor."):
        name = re.sub(r"(conv_layers\.\d+)\.conv\.", r"\1.0.", name)
        return re.sub(r"(conv_layers\.\d+)\.layer_norm\.", r"\1.2.1.", name)
    if name.startswith("feature_projection."):
        return name.replace("feature_projection.", "").replace("projection.", "post_extract_proj.")
    if name.startswith("encoder.pos_conv_embed."):
        return name.replace("pos_conv_embed.conv.", "pos_conv.0.")
    found = re.fullmatch(r"(encoder\.layers\.\d+\.)(.+)", name)
    if not found:
        return name
    layer, rest = found.groups()
    if rest.startswith("attention."):
        for original, ours in _ATTENTION.items():
            rest = rest.replace(f"attention.{ours}", f"attention.{original}")
        return f"{layer}self_attn.{rest.removeprefix('attention.')}"
    rest = re.sub(r"^layer_norm", "self_attn_layer_norm", rest)
    rest = rest.replace("feed_forward.intermediate_dense", "fc1").replace("feed_forward.output_dense", "fc2")
    return layer + rest


def _require_fitting(
    wanted: Mapping[str, str], found: Mapping[str, Tensor], shapes: Mapping[str, Tensor], path: str | os.PathLike
) -> None:
    problems = []
    for what, names in (("missing", wanted.keys() - found.keys()),
                        ("unexpected", found.keys() - wanted.keys() - _NOT_USED)):  # fmt: skip
        if names:
            problems.append(f"{len(names)} {what}: {first_few(sorted(names))}")
    both = sorted(wanted.keys() & found.keys())
    if differing := [
        f"{name} {list(found[name].shape)} instead of {list(shapes[wanted[name]].shape)}"
        for name in both
        if found[name].shape != shapes[wanted[name]].shape
    ]:
        problems.append(f"{len(differing)} of another shape: {first_few(differing)}")
    if broken := [name for name in both if not found[name].isfinite().all()]:
        problems.append(f"{len(broken)} not finite: {first_few(broken)}")
    if problems:
        raise ValueError(f"the tensors of {path} do not fit its cfg; {'; '.join(problems)}")
