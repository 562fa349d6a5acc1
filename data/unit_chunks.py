"""Units without repeats as sequences of one alphabet: what a language model of units learns from, and is tried on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from data.token_corpus import TokenCorpus, shared_provenance
from data.utterances import place_in_series

BOS = 0  # begins an utterance; unit u is symbol u + 1


class _Utterances(Dataset):
    """What both data sets have in common.

    Args:
        units: folder of ``NAME.npy``, with or without repeats.
        num_clusters: K; units are in [0, K).
        chunk_size: symbols of an item, at most.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a file of it is broken, or holds something else; it is named. Or a chunk is too short to predict
            anything.
    """

    def __init__(self, *, units: str | os.PathLike, num_clusters: int, chunk_size: int):
        if chunk_size < 2:
            raise ValueError(f"chunk_size must be 2 or more, got {chunk_size}")
        self.corpus = TokenCorpus(units, vocab_size=num_clusters)
        self.chunk_size = chunk_size

    def symbols(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Of an utterance BOS and its units without repeats [U + 1], and at which frame each of these begins [U]."""
        units = self.corpus[place]
        begins = np.flatnonzero(np.r_[True, units[1:] != units[:-1]])
        return np.r_[BOS, units[begins] + 1], begins

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """``symbols`` [B, S] and ``is_target`` [B, S - 1], padded at the right, where nothing is a target."""
        return {
            "symbols": pad_sequence([item["symbols"] for item in items], batch_first=True),
            "is_target": pad_sequence([item["is_target"] for item in items], batch_first=True),
            "frames": torch.tensor([item["frames"] for item in items]),
        }


class UnitChunks(_Utterances):
    """Chunks of consecutive utterances: what the model trains on.

    An item is an utterance from a uniformly drawn symbol on, and those after it in its chapter, the folder that it lies
    in, until there are ``chunk_size`` symbols: ``symbols`` [S] int64; ``is_target`` [S - 1] bool, whether symbol i + 1
    is to be predicted; ``frames``, 0, as it may begin anywhere. The first one is not, unless BOS is before it: nobody
    could know what came earlier.

    Item i of epoch e is place e * items + i of an endless series of permutations of all utterances, each seeded.

    Args:
        units, num_clusters, chunk_size: as above.
        items: of an epoch; None: every utterance once.
        seed: of the order and of where chunks begin.
    """

    def __init__(
        self,
        *,
        units: str | os.PathLike,
        num_clusters: int,
        chunk_size: int = 1024,
        items: int | None = None,
        seed: int = 0,
    ):
        super().__init__(units=units, num_clusters=num_clusters, chunk_size=chunk_size)
        if items is not None and items < 1:
            raise ValueError(f"epoch_num must be above 0, or null for every utterance once, got {items}")
        self.items = items or len(self.corpus)
        self.seed = seed
        self.following = _following(self.corpus.names)

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, Any]:
        chosen, rng = place_in_series(key, len(self.corpus), items=self.items, seed=self.seed)
        first, _ = self.symbols(chosen)
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < 2:  # one symbol predicts nothing: drawn again
            start = int(rng.integers(len(first)))
            parts, here = [first[start:]], int(self.following[chosen])
            while sum(map(len, parts)) < self.chunk_size and here >= 0:
                parts.append(self.symbols(here)[0])
                here = int(self.following[here])
        symbols = torch.from_numpy(np.concatenate(parts)[: self.chunk_size])
        is_target = torch.ones(len(symbols) - 1, dtype=torch.bool)
        is_target[0] = start == 0
        return {"symbols": symbols, "is_target": is_target, "frames": 0}


class UnitUtterances(_Utterances):
    """Whole utterances, cut at ``chunk_size``: what the model is tried on. Items as those of ``UnitChunks``.

    ``frames`` are those of the units that are left, of files that have their repeats.
    """

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, key: int) -> dict[str, Any]:
        whole, begins = self.symbols(key)
        symbols = torch.from_numpy(whole[: self.chunk_size])
        is_cut = len(symbols) < len(whole)
        frames = int(begins[len(symbols) - 1]) if is_cut else len(self.corpus[key])
        return {"symbols": symbols, "is_target": torch.ones(len(symbols) - 1, dtype=torch.bool), "frames": frames}


def made_by(*, train_units: str | os.PathLike, valid_units: str | os.PathLike) -> dict[str, Any]:
    """What made the ``units`` of a training, as their records say.

    Raises:
        ValueError: those of training and validation say different things.
    """
    return shared_provenance({"units": (train_units, valid_units)})


def _following(names: Sequence[str]) -> np.ndarray:
    """Of each utterance the next one of its folder, -1 of the last."""
    following = np.full(len(names), -1)
    latest: dict[PurePosixPath, int] = {}
    for place, name in enumerate(names):
        folder = PurePosixPath(name).parent
        if folder in latest:
            following[latest[folder]] = place
        latest[folder] = place
    return following
