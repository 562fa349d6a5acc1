"""What recipes of speech resynthesis build their parts with, where a part may be left out."""

from __future__ import annotations

import os

from models.hubert import load_encoder
from models.kmeans.files import read_kmeans
from models.ssl_tokenizer import SSLTokenizer


def make_unit_tokenizer(
    *,
    ssl_path: str | os.PathLike | None,
    kmeans_path: str | os.PathLike | None,
    ssl_layer: int,
    ssl_normalize: bool,
    num_units: int,
) -> SSLTokenizer | None:
    """The encoder of units: a layer of a HuBERT or WavLM and its k-means; None where neither is named.

    Raises:
        ValueError: one of the two is named without the other, or k-means has another number of centres.
    """
    if ssl_path is None and kmeans_path is None:
        return None
    if ssl_path is None or kmeans_path is None:
        raise ValueError("ssl_path and kmeans_path must be set together")
    encoder = load_encoder(ssl_path, layers=[ssl_layer], normalize=ssl_normalize)
    centroids = read_kmeans(kmeans_path, [ssl_layer])
    if len(centroids[0]) != num_units:
        raise ValueError(f"{kmeans_path} has {len(centroids[0])} centres; num_units is {num_units}")
    return SSLTokenizer(encoder=encoder, centroids=centroids, vocab_size=num_units)
