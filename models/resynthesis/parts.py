"""What recipes of speech resynthesis build their parts with, where a part may be left out."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from models.hubert import load_encoder
from models.ssl_tokenizer import SSLTokenizer


def make_unit_tokenizer(
    *,
    ssl_path: str | os.PathLike | None,
    centroids: Sequence[torch.Tensor] | None,
    ssl_layer: int,
    ssl_normalize: bool,
    num_units: int,
) -> SSLTokenizer | None:
    """The encoder of units: a layer of a HuBERT or WavLM and its k-means; None where neither is named.

    Args:
        centroids: of the layer, one [V, D]; None: ``kmeans_path`` is not named.

    Raises:
        ValueError: one of the two is named without the other, or k-means has another number of centres.
    """
    if ssl_path is None and centroids is None:
        return None
    if ssl_path is None or centroids is None:
        raise ValueError("ssl_path and kmeans_path must be set together")
    encoder = load_encoder(ssl_path, layers=[ssl_layer], normalize=ssl_normalize)
    if len(centroids[0]) != num_units:
        raise ValueError(f"kmeans_path has {len(centroids[0])} centres; num_units is {num_units}")
    return SSLTokenizer(encoder=encoder, centroids=centroids, vocab_size=num_units)
