"""Units and codes of the same recordings as sequences of one alphabet: what an acoustic language model learns from."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from data.token_corpus import TokenCorpus, shared_provenance
from data.utterances import place_in_series
from utils.errors import first_few

log = logging.getLogger(__name__)


class Interleaving(Protocol):
    """Makes a sequence of units and codes; the rates are frames a second."""

    num_clusters: int
    num_codes: int
    unit_rate: int
    code_rate: int

    def check(self, num_units: int, num_codes: int) -> None: ...

    def length(self, units: np.ndarray, codes: int) -> int: ...

    def __call__(self, units: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


class UnitCodes(Dataset):
    """An utterance an item: ``symbols`` [S] int64, ``is_target`` [S - 1] bool, ``frames``, how many codes it has.

    Item i of epoch e is place e * items + i of an endless series of permutations of all utterances, each seeded; under
    an index alone they are in the order of their paths.

    Args:
        units, codes: folders of frame-aligned ``NAME.npy``, with the same names.
        interleave: makes the sequences.
        items: of an epoch; None: every utterance once.
        max_ids: longer sequences are left out, which the log tells, so that the memory of a step is bounded.
        seed: of the order.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: a file is broken, has no counterpart, or one of another duration; it is named. Or nothing is left.
    """

    def __init__(
        self,
        *,
        units: str | os.PathLike,
        codes: str | os.PathLike,
        interleave: Interleaving,
        items: int | None = None,
        max_ids: int = 6000,
        seed: int = 0,
    ):
        if items is not None and items < 1:
            raise ValueError(f"epoch_num must be above 0, or null for every utterance once, got {items}")
        self.interleave = interleave
        self.seed = seed
        self.units = TokenCorpus(units, vocab_size=interleave.num_clusters)
        self.codes = TokenCorpus(codes, vocab_size=interleave.num_codes)
        counterparts = {name: i for i, name in enumerate(self.codes.names)}
        lacking = [self.units.path(i) for i, name in enumerate(self.units.names) if name not in counterparts]
        surplus = counterparts.keys() - set(self.units.names)
        if lacking or surplus:
            files = [*lacking, *(self.codes.path(counterparts[name]) for name in sorted(surplus))]
            raise ValueError(
                f"{len(files)} files of {units} and {codes} have no counterpart of the same name in the other folder: "
                f"{first_few(files)}"
            )
        pairs, long = [], []
        for i, name in enumerate(self.units.names):
            j = counterparts[name]
            count = int(self.codes.offsets[j + 1] - self.codes.offsets[j])
            frames = self.units[i]
            try:
                interleave.check(len(frames), count)
            except ValueError as error:
                raise ValueError(f"{self.units.path(i)} and {self.codes.path(j)}: {error}") from error
            if interleave.length(frames, count) > max_ids:
                long.append(name)
            else:
                pairs.append((i, j))
        if long:
            log.warning(
                "%s: %d of %d utterances are left out, as they make more than max_ids, %d: %s",
                units, len(long), len(self.units), max_ids, first_few(long, 20),
            )  # fmt: skip
        if not pairs:
            raise ValueError(f"no utterance of {units} makes at most max_ids, {max_ids}")
        self.pairs = np.array(pairs)
        self.items = items or len(pairs)

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, Any]:
        chosen, _ = place_in_series(key, len(self.pairs), items=self.items, seed=self.seed)
        i, j = self.pairs[chosen]
        symbols, is_target = self.interleave(self.units[i], self.codes[j])
        frames = int(self.codes.offsets[j + 1] - self.codes.offsets[j])
        return {"symbols": torch.from_numpy(symbols), "is_target": torch.from_numpy(is_target), "frames": frames}

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """``symbols`` [B, S] and ``is_target`` [B, S - 1], padded at the right, where nothing is a target."""
        return {
            "symbols": pad_sequence([item["symbols"] for item in items], batch_first=True),
            "is_target": pad_sequence([item["is_target"] for item in items], batch_first=True),
            "frames": torch.tensor([item["frames"] for item in items]),
        }


def made_by(
    *,
    train_units: str | os.PathLike,
    train_codes: str | os.PathLike,
    valid_units: str | os.PathLike,
    valid_codes: str | os.PathLike,
) -> dict[str, Any]:
    """What made the ``units`` and the ``codes`` of a training, as their records say.

    Raises:
        ValueError: those of training and validation say different things.
    """
    return shared_provenance({"units": (train_units, valid_units), "codes": (train_codes, valid_codes)})
