"""The released file of WavTokenizer: a Lightning checkpoint, of which nothing can run."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from utils.safe_load import load_torch
from utils.tensor_files import as_tensors

ENCODER = "feature_extractor.encodec.encoder.model."
CODEBOOK = "feature_extractor.encodec.quantizer.vq.layers.0._codebook.embed"
_KEPT = ("feature_extractor.", "backbone.", "head.")
_NOT_USED = "feature_extractor.encodec.decoder."
_TRAINING_STATE = tuple(CODEBOOK.removesuffix("embed") + name for name in ("inited", "cluster_size", "embed_avg"))
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sizes:
    """The sizes of a WavTokenizer, all of which show in the shapes of its tensors.

    Attributes:
        filters: channels of the encoder at the sample rate.
        strides: of the encoder, from samples to frames.
        lstm_layers: of the encoder.
        num_codes, codec_dim: of the codebook, [C, D].
        channels, hidden, layers, norm_rows: of the backbone, see ``modules.vocos.VocosBackbone``.
        fft_length: samples of a window of the head.
    """

    filters: int
    strides: tuple[int, ...]
    lstm_layers: int
    num_codes: int
    codec_dim: int
    channels: int
    hidden: int
    layers: int
    norm_rows: int
    fft_length: int

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return math.prod(self.strides)


def read_wavtokenizer(path: str | os.PathLike) -> tuple[Sizes, dict[str, Tensor]]:
    """The sizes and the tensors of a released file, under their released names.

    What only the training needed is left out: discriminators, the decoder of Encodec, running means of the codebook.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is unsafe or broken, no checkpoint of WavTokenizer, or of sizes that cannot be.
    """
    content = load_torch(path, mmap=True)
    if not isinstance(content, Mapping) or not isinstance(content.get("state_dict"), Mapping):
        raise ValueError(f"{path} is no Lightning checkpoint of WavTokenizer: it has no state_dict")
    state = as_tensors(content["state_dict"], path)
    kept = {n: v for n, v in state.items() if n.startswith(_KEPT) and not n.startswith(_NOT_USED)}
    kept = {n: v for n, v in kept.items() if n not in _TRAINING_STATE}
    sizes = _sizes(kept, path)
    log.info("%s: %d tensors, %d more that only its training needed", path, len(kept), len(state) - len(kept))
    return sizes, kept


def _sizes(tensors: Mapping[str, Tensor], path: str | os.PathLike) -> Sizes:
    def shape(name: str, dims: int) -> torch.Size:
        if name not in tensors:
            raise ValueError(f"{path} is no whole WavTokenizer: {name} is missing")
        if tensors[name].ndim != dims or not tensors[name].numel():
            raise ValueError(f"{path}: {name} has {dims} dimensions, none of them 0, in a WavTokenizer; its shape is "
                             f"{list(tensors[name].shape)}")  # fmt: skip
        return tensors[name].shape

    layer = re.compile(re.escape(ENCODER) + r"(\d+)\.conv\.conv\.weight_v")
    places = sorted(int(found[1]) for name in tensors if (found := layer.fullmatch(name)))
    if len(places) < 3:
        raise ValueError(f"{path} is no whole WavTokenizer: strided convolutions {ENCODER}*.conv.conv.weight_v missing")
    kernels = [shape(f"{ENCODER}{place}.conv.conv.weight_v", 3)[2] for place in places[1:-1]]
    if any(kernel % 2 for kernel in kernels):
        raise ValueError(f"{path}: the kernels of the encoder's strided convolutions are twice their strides, not "
                         f"{kernels}")  # fmt: skip
    num_codes, codec_dim = shape(CODEBOOK, 2)
    channels = shape("backbone.embed.weight", 3)[0]
    sizes = Sizes(
        filters=shape(f"{ENCODER}{places[0]}.conv.conv.weight_v", 3)[0],
        strides=tuple(kernel // 2 for kernel in kernels),
        lstm_layers=_count(tensors, re.escape(ENCODER) + r"\d+\.lstm\.weight_ih_l(\d+)"),
        num_codes=num_codes,
        codec_dim=codec_dim,
        channels=channels,
        hidden=shape("backbone.convnext.0.pwconv1.weight", 2)[0],
        layers=_count(tensors, r"backbone\.convnext\.(\d+)\.gamma"),
        norm_rows=shape("backbone.norm.scale.weight", 2)[0],
        fft_length=shape("head.out.weight", 2)[0] - 2,
    )
    beyond = sizes.fft_length - sizes.hop_length
    if channels % 32 or beyond < 0 or beyond % 2 or not sizes.lstm_layers or not sizes.layers:
        raise ValueError(
            f"{path} has sizes that no WavTokenizer has: {channels} channels (a multiple of 32 is needed), windows of "
            f"{sizes.fft_length} samples every {sizes.hop_length}, {sizes.lstm_layers} LSTM layers, {sizes.layers} "
            "ConvNeXt blocks"
        )
    return sizes


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many layers the names speak of: the last number and 1."""
    return max((int(found[1]) + 1 for name in tensors if (found := re.fullmatch(pattern, name))), default=0)
