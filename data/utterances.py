"""Single utterances: lists of them, and crops, alone or with another talker over them."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from data import audio
from data.mixing import gain_to_ratio
from data.scp import AUDIO_SUFFIXES, Listed, raise_for, read_list
from data.speakers import read_index
from utils.files import portable


def read_utterances(path: str | os.PathLike) -> dict[str, Path]:
    """All utterances of a list: of ``name path`` lines (``.scp``), or of a speaker index (``.json`` or ``.pt``).

    Returns:
        name -> path, in the order of the file. An utterance of a speaker index is named by its path below the index's
        folder, or by its whole path, without the suffix.

    Raises:
        OSError: there is no such list, or it may not be read.
        ValueError: it is of neither form, names an utterance twice, or has entries that are not taken as paths.
    """
    listed = list_utterances(path)
    raise_for(listed.problems.values())
    return {name: Path(entry) for name, entry in listed.entries.items()}


def list_utterances(path: str | os.PathLike) -> Listed:
    """The same, with the entries of a ``.scp`` list that are not taken as paths as problems beside the others."""
    path = Path(path)
    if path.suffix not in (".json", ".pt"):
        return read_list(path)
    named: dict[str, Path] = {}
    for paths in read_index(path).values():
        for file in paths:
            name = portable(file, path.parent).lstrip("/")
            stem, suffix = os.path.splitext(name)
            name = stem if suffix.lower() in AUDIO_SUFFIXES else name
            if named.get(name, file) != file:
                raise ValueError(f"{path}: {named[name]} and {file} have the same name, {name}")
            named[name] = file
    if not named:
        raise ValueError(f"{path} names no utterance")
    return Listed({name: str(file) for name, file in named.items()})


def place(key: tuple[int, int] | int, count: int, *, seed: int) -> tuple[int, np.random.Generator]:
    """Which of ``count`` things an item is made of, and the generator of all else that is random in it.

    Under (epoch, index) every epoch has an order of its own, and one of more items than things takes them again, in
    another order; under an index alone, things stay in their order.
    """
    if isinstance(key, int):
        return key, np.random.default_rng([seed, key])
    epoch, index = key
    turn, index_in_turn = divmod(index, count)
    return int(_order(count, seed, epoch, turn)[index_in_turn]), np.random.default_rng([seed, *key])


def place_in_series(
    key: tuple[int, int] | int, count: int, *, items: int, seed: int
) -> tuple[int, np.random.Generator]:
    """``place``, where an epoch has so many items of an endless series of permutations of all things."""
    if isinstance(key, tuple):
        through = key[0] * items + key[1]
        key = (through // count, through % count)
    return place(key, count, seed=seed)


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int, turn: int) -> np.ndarray:
    # Four numbers for further turns: three would begin as an item's own generator does.
    entropy = [seed, epoch, turn, count] if turn else [seed, epoch]
    return np.random.default_rng(entropy).permutation(count)


class UtteranceCrops(Dataset):
    """A crop of every utterance, each once in an epoch.

    An item is a function of the seed and its key: (epoch, index), shuffled and cut anew in each epoch, or an index, in
    the order of the list and always cut at the same place.

    Args:
        utterances: list or speaker index, see ``read_utterances``.
        length: samples of a crop.
        seed: of order and places.
        limit: only so many utterances, evenly spread over the list; None: all.
        sample_rate: Hz of the crops.
    """

    def __init__(
        self,
        *,
        utterances: str | os.PathLike,
        length: int,
        seed: int = 0,
        limit: int | None = None,
        sample_rate: int = audio.SAMPLE_RATE,
    ):
        if length <= 0 or (limit is not None and limit <= 0):
            raise ValueError(f"length and limit must be above 0, got {length} and {limit}")
        paths = list(read_utterances(utterances).values())
        if limit is not None and limit < len(paths):
            paths = [paths[i * len(paths) // limit] for i in range(limit)]
        self.paths = paths
        self.length = length
        self.seed = seed
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, torch.Tensor]:
        """``wav`` [T] float32, zero-padded at its end, and ``length``, the samples that are not padding."""
        chosen, rng = place(key, len(self.paths), seed=self.seed)
        wav = audio.read_part(
            self.paths[chosen], length=self.length, position=rng.random(), sample_rate=self.sample_rate
        )
        return {"wav": torch.from_numpy(audio.pad(wav, self.length)), "length": torch.tensor(len(wav))}


class OverlappedUtterances(Dataset):
    """Crops of single utterances, some of them with another talker over a part: utterance mixing (arXiv 2110.13900).

    What is asked of a network is to tell what the main talker says, who is alone in the rest of the crop.

    Args:
        speakers: speaker index, see ``data.speakers``.
        length: samples of a crop.
        overlap_probability: of an item with another talker.
        overlap_share: the other one talks in up to this part of the crop.
        overlap_range_db: the energy of the main talker over that of the other one is uniform in +- this.
        seed: of all draws; keys are those of ``UtteranceCrops``.
    """

    def __init__(
        self,
        *,
        speakers: str | os.PathLike,
        length: int,
        overlap_probability: float = 0.2,
        overlap_share: float = 0.5,
        overlap_range_db: float = 5.0,
        seed: int = 0,
    ):
        if length <= 0 or not 0 <= overlap_probability <= 1 or not 0 < overlap_share <= 1 or overlap_range_db < 0:
            raise ValueError(
                "length must be above 0, overlap_probability in [0, 1], overlap_share in (0, 1] and overlap_range_db "
                f"not negative, got {length}, {overlap_probability}, {overlap_share} and {overlap_range_db}"
            )
        index = [paths for paths in read_index(speakers).values() if paths]
        if len(index) < 2:
            raise ValueError(f"{speakers}: two speakers are needed, {len(index)} found")
        self.utterances = index
        self.places = [(speaker, i) for speaker, paths in enumerate(index) for i in range(len(paths))]
        self.length = length
        self.overlap_probability = overlap_probability
        self.overlap_share = overlap_share
        self.overlap_range_db = overlap_range_db
        self.seed = seed

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, torch.Tensor]:
        """``target`` [T], the main talker alone; ``mixture`` [T], what is heard; ``length``, samples of the target."""
        chosen, rng = place(key, len(self.places), seed=self.seed)
        speaker, utterance = self.places[chosen]
        target = audio.read_part(self.utterances[speaker][utterance], length=self.length, position=rng.random())
        mixture = target
        if rng.random() < self.overlap_probability:
            other = int(rng.integers(len(self.utterances) - 1))
            other += other >= speaker
            path = self.utterances[other][rng.integers(len(self.utterances[other]))]
            samples = max(int(rng.random() * self.overlap_share * len(target)), 1)
            interferer = audio.read_part(path, length=samples, position=rng.random())
            start = int(rng.random() * (len(target) - len(interferer) + 1))
            under = target[start : start + len(interferer)]
            ratio_db = rng.uniform(-self.overlap_range_db, self.overlap_range_db)
            mixture = target.copy()
            mixture[start : start + len(interferer)] += gain_to_ratio(under, interferer, ratio_db) * interferer
        padded = {"target": audio.pad(target, self.length), "mixture": audio.pad(mixture, self.length)}
        return {**{name: torch.from_numpy(x) for name, x in padded.items()}, "length": torch.tensor(len(target))}
