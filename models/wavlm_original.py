"""WavLM from its original file, ``WavLM-Large.pt``: a dict of settings and tensors, of which nothing can run."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import WavLMConfig, WavLMModel

from utils.checkpoint import load_tensors
from utils.errors import first_few
from utils.safe_load import load_torch
from utils.tensor_files import as_tensors, newer_names

# of ``cfg`` -> of transformers' configuration; all are whole numbers above 0
SIZES = {
    "encoder_layers": "num_hidden_layers",
    "encoder_embed_dim": "hidden_size",
    "encoder_ffn_embed_dim": "intermediate_size",
    "encoder_attention_heads": "num_attention_heads",
    "conv_pos": "num_conv_pos_embeddings",
    "conv_pos_groups": "num_conv_pos_embedding_groups",
    "num_buckets": "num_buckets",
    "max_distance": "max_bucket_distance",
}
# What the others of the family have is not read; what a file does not say is so.
FIXED = {
    "extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": False, "activation_fn": "gelu",
    "relative_position_embedding": True, "gru_rel_pos": True,
}  # fmt: skip
# of transformers -> of the file, in this order; in the encoder's layers and before them
NAMES = (
    (r"^feature_extractor\.conv_layers\.(\d+)\.conv\.", r"feature_extractor.conv_layers.\1.0."),
    (r"^feature_extractor\.conv_layers\.(\d+)\.layer_norm\.", r"feature_extractor.conv_layers.\1.2.1."),
    (r"^feature_projection\.layer_norm\.", "layer_norm."),
    (r"^feature_projection\.projection\.", "post_extract_proj."),
    (r"^encoder\.pos_conv_embed\.conv\.", "encoder.pos_conv.0."),
    (r"(\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
    (r"\.attention\.gru_rel_pos_linear\.", ".self_attn.grep_linear."),
    (r"\.attention\.gru_rel_pos_const$", ".self_attn.grep_a"),
    (r"\.attention\.rel_attn_embed\.", ".self_attn.relative_attention_bias."),
    (r"\.attention\.", ".self_attn."),
    (r"\.feed_forward\.intermediate_dense\.", ".fc1."),
    (r"\.feed_forward\.output_dense\.", ".fc2."),
)
LONGEST = 1000  # characters of conv_feature_layers
MOST = 64  # convolutions
PROJECTION = "post_extract_proj."  # not there where both sides are equally wide
MASK = "mask_emb"  # what training put in the place of masked frames: no feature follows from it


def load_original(path: str | os.PathLike, *, highest: int) -> tuple[WavLMModel, int]:
    """A transformers model up to layer ``highest``, and the number of layers that the file has in all.

    Args:
        path: holds ``{"cfg": dict, "model": state dict}``, as published. Layers above ``highest`` are not read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is unsafe or broken, of another kind or size, has too few layers, or tensors are missing,
            unexpected, misshaped or not finite; these are listed under their names in the file.
    """
    content = load_torch(path, mmap=True)
    if not isinstance(content, Mapping) or not isinstance(content.get("cfg"), Mapping) or "model" not in content:
        raise ValueError(f"{path} is no original WavLM file: a dict with cfg and model is needed")
    config = read_config(content["cfg"], path)
    total = config.num_hidden_layers
    if highest > total:
        raise ValueError(f"{path} has {total} layers, layer {highest} was asked for")
    config.num_hidden_layers = highest
    with torch.device("meta"):  # values that are drawn, only to be replaced, take seconds
        model = WavLMModel(config)
    model = model.to_empty(device="cpu").eval()
    tensors = newer_names(as_tensors(content["model"], path), path)
    _load(model, _used(tensors, range(highest, total)), path)
    return model, total


def read_config(cfg: Mapping[str, Any], path: str | os.PathLike) -> WavLMConfig:
    """The sizes of an original file's ``cfg``.

    Raises:
        ValueError: one is missing or cannot be, or the file is of another kind of WavLM than the large one.
    """
    lacking = [name for name in (*SIZES, "conv_feature_layers") if name not in cfg]
    if lacking:
        raise ValueError(f"the cfg of {path} lacks {first_few(lacking)}")
    wrong = [f"{n} {cfg[n]!r}" for n in SIZES if type(cfg[n]) is not int or not 0 < cfg[n] < 2**20]
    if wrong:
        raise ValueError(f"the cfg of {path} needs whole numbers above 0, it has {first_few(wrong)}")
    others = [f"{n}: {cfg[n]!r} instead of {value!r}" for n, value in FIXED.items() if cfg.get(n, value) != value]
    if others:
        raise ValueError(
            f"{path} is of another kind of WavLM than WavLM-Large, which alone is read: {first_few(others)}"
        )
    sizes = {ours: cfg[name] for name, ours in SIZES.items()}
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise ValueError(
            f"the cfg of {path} has encoder_embed_dim {sizes['hidden_size']}, which encoder_attention_heads "
            f"{sizes['num_attention_heads']} does not divide"
        )
    if sizes["hidden_size"] % sizes["num_conv_pos_embedding_groups"]:
        raise ValueError(
            f"the cfg of {path} has encoder_embed_dim {sizes['hidden_size']}, which conv_pos_groups "
            f"{sizes['num_conv_pos_embedding_groups']} does not divide"
        )
    try:
        layers = parse_layers(cfg["conv_feature_layers"])
    except ValueError as error:
        raise ValueError(f"conv_feature_layers in the cfg of {path}: {error}") from None
    width, kernel, stride = (list(x) for x in zip(*layers, strict=True))
    return WavLMConfig(
        conv_dim=width, conv_kernel=kernel, conv_stride=stride, feat_extract_norm="layer", do_stable_layer_norm=True,
        mask_time_prob=0.0, mask_feature_prob=0.0, **sizes,
    )  # fmt: skip


def parse_layers(text: object) -> list[tuple[int, int, int]]:
    """``"[(512,10,5)] + [(512,3,2)] * 4"`` -> (channels, kernel, stride) of each convolution. Nothing is evaluated.

    Raises:
        ValueError: it is no text, or no sum of repeated lists of three whole numbers above 0.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise ValueError(f"a text of at most {LONGEST} characters is needed, such as '[(512,10,5)] + [(512,3,2)] * 4'")
    try:
        layers = _layers(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        layers = None
    if not layers:
        raise ValueError(
            f"a list of tuples of three whole numbers above 0 is needed, such as '[(512,10,5)] + [(512,3,2)] * 4'; "
            f"got {text[:200]!r}"
        )
    return layers


def _layers(node: ast.expr) -> list[tuple[int, int, int]] | None:
    """The list that a part of the text stands for; None: it is none, or too long."""
    found = None
    if isinstance(node, ast.List):
        tuples = [_numbers(element) for element in node.elts]
        found = None if None in tuples else tuples
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _layers(node.left), _layers(node.right)
        found = None if left is None or right is None else left + right
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        pair = (node.left, node.right)
        count, part = pair if isinstance(node.left, ast.Constant) else pair[::-1]
        times, layers = _whole(count), _layers(part)
        found = None if times is None or layers is None or times * len(layers) > MOST else layers * times
    return found if found is None or len(found) <= MOST else None


def _numbers(node: ast.expr) -> tuple[int, int, int] | None:
    values = [_whole(element) for element in node.elts] if isinstance(node, ast.Tuple) else []
    return tuple(values) if len(values) == 3 and None not in values else None


def _whole(node: ast.expr) -> int | None:
    is_whole = isinstance(node, ast.Constant) and type(node.value) is int and 0 < node.value < 2**20
    return node.value if is_whole else None


def original_name(name: str) -> str:
    """Of a tensor of transformers' model, in an original file with weight norm's newer names."""
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _used(tensors: Mapping[str, Tensor], left_out: range) -> dict[str, Tensor]:
    """All but those of the layers that are not read."""
    layer = re.compile(r"encoder\.layers\.(\d+)\.")
    return {n: v for n, v in tensors.items() if not ((m := layer.match(n)) and int(m[1]) in left_out)}


def _load(model: WavLMModel, tensors: dict[str, Tensor], path: str | os.PathLike) -> None:
    needed = {original_name(name): value for name, value in model.state_dict().items()}
    projection = model.feature_projection.projection
    if projection.in_features == projection.out_features and not any(n.startswith(PROJECTION) for n in tensors):
        nn.init.eye_(projection.weight)
        nn.init.zeros_(projection.bias)
        needed = {name: value for name, value in needed.items() if not name.startswith(PROJECTION)}
    is_whole = tensors.pop(MASK, None) is not None
    parts = {owner: _Part(owner, needed) for owner in {name.partition(".")[0] for name in needed}}
    load_tensors(parts, tensors, path)
    if not is_whole:
        raise ValueError(f"the tensors of {path} are not all there: {MASK} is missing")


class _Part:
    """The tensors of a model whose names in the file begin alike."""

    def __init__(self, owner: str, tensors: Mapping[str, Tensor]):
        prefix = f"{owner}."
        self._tensors = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}

    def state_dict(self) -> dict[str, Tensor]:
        return self._tensors

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._tensors.items():
                value.copy_(state[name])
