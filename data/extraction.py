"""Data sets of target speaker extraction: mixtures made on the fly, and fixed lists. Every item is a pure function."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from data import audio
from data.mixing import Mixed, mix_published, mix_symmetric
from data.scp import read_aligned
from data.speakers import read_speakers
from data.surroundings import Surroundings

MIXINGS = ("published", "symmetric")


class OnTheFlyMixtures(Dataset):
    """Mixtures of two talkers, drawn anew in every epoch.

    Two different speakers are drawn; of the first, two different utterances, the target and the enrolment; of the
    second, the interferer. Each is cut at a random place, or zero-padded at its end.

    An item is a function of (seed, epoch, index) and of nothing else, so the numbers of workers and of processes, or
    a restart in mid-epoch, change nothing.

    Args:
        speakers: path of the speaker index, see ``data.speakers``.
        epoch_num: items in an epoch.
        mix_length, regi_length: samples of mixture and target, and of the enrolment.
        mixing: ``published`` or ``symmetric``, see ``data.mixing``.
        mix_range_db: the range of ``symmetric`` mixing.
        surroundings: puts each mixture into a room, noise and so on, see ``data.surroundings``; None: as they are.
        seed: of all draws.
    """

    def __init__(
        self,
        *,
        speakers: str | os.PathLike,
        epoch_num: int,
        mix_length: int,
        regi_length: int,
        mixing: str = "published",
        mix_range_db: float = 5.0,
        surroundings: Surroundings | None = None,
        seed: int = 0,
    ):
        if mixing not in MIXINGS:
            raise ValueError(f"mixing must be one of {', '.join(MIXINGS)}, got {mixing!r}")
        if mix_range_db < 0:
            raise ValueError(f"mix_range_db must not be negative, got {mix_range_db}")
        _check_lengths(mix_length, regi_length)
        self.utterances = list(read_speakers(speakers).values())
        if surroundings and "babble" in surroundings.noises and len(self.utterances) < 4:
            raise ValueError(
                f"babble takes talkers who are not in the mixture, and {speakers} has {len(self.utterances)}: add "
                "talkers, or leave babble out of surroundings.noises"
            )
        self.epoch_num = epoch_num
        self.mix_length = mix_length
        self.regi_length = regi_length
        self.mixing = mixing
        self.mix_range_db = mix_range_db
        self.surroundings = surroundings
        self.seed = seed

    def __len__(self) -> int:
        return self.epoch_num

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        """The item of (epoch, index): ``mixture`` [T], ``target`` [T] and ``enrolment`` [R], float32."""
        crops, level = self.draw(key)
        signals = (audio.read_crop(path, length=length, position=position) for path, length, position in crops)
        if self.mixing == "published":
            mixed = mix_published(*signals, draw=level)
        else:
            mixed = mix_symmetric(*signals, draw=level, range_db=self.mix_range_db)
        if self.surroundings:
            mixed = self._put_somewhere(mixed, key, [path for path, *_ in crops])
        return {name: torch.from_numpy(wav) for name, wav in mixed._asdict().items()}

    def draw(self, key: tuple[int, int]) -> tuple[list[tuple[Path, int, float]], float]:
        """What the item of (epoch, index) is made of.

        Returns:
            File, samples and place in [0, 1) of target, interferer and enrolment; and the draw of their levels.
        """
        rng = np.random.default_rng([self.seed, *key])
        first, second = rng.choice(len(self.utterances), size=2, replace=False)
        chosen = rng.choice(len(self.utterances[first]), size=2, replace=False)
        target, enrolment = (self.utterances[first][i] for i in chosen)
        interferer = self.utterances[second][rng.integers(len(self.utterances[second]))]
        files = ((target, self.mix_length), (interferer, self.mix_length), (enrolment, self.regi_length))
        return [(path, length, rng.random()) for path, length in files], rng.random()

    def _put_somewhere(self, mixed: Mixed, key: tuple[int, int], heard: list[Path]) -> Mixed:
        """By draws of their own, so that all others are the same with and without surroundings."""

        def others(length: int, rng: np.random.Generator) -> np.ndarray:
            paths = heard
            while any(path in heard for path in paths):
                paths = self.utterances[rng.integers(len(self.utterances))]
            return audio.read_crop(paths[rng.integers(len(paths))], length=length, position=rng.random())

        return self.surroundings(mixed, np.random.default_rng([self.seed, *key, 2]), others)


class FixedMixtures(Dataset):
    """Mixtures, targets and enrolments from lists, each cut at a place that depends on the seed and the item alone.

    Args:
        mix_path, clean_path, ref_path: lists of mixtures, clean targets and enrolments, matched by name.
        mix_length, regi_length: samples of mixture and target, and of the enrolment.
        seed: of the places.
    """

    def __init__(
        self,
        *,
        mix_path: str | os.PathLike,
        clean_path: str | os.PathLike,
        ref_path: str | os.PathLike,
        mix_length: int,
        regi_length: int,
        seed: int = 0,
    ):
        _check_lengths(mix_length, regi_length)
        self.entries = read_aligned({"mixture": mix_path, "target": clean_path, "enrolment": ref_path})
        self.mix_length = mix_length
        self.regi_length = regi_length
        self.seed = seed

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``mixture`` [T] and ``target`` [T], cut at the same place, and ``enrolment`` [R], float32; and ``key``.

        The key is a number that stands for all samples of the item: who has computed something from it may keep that.
        """
        _, paths = self.entries[index]
        rng = np.random.default_rng([self.seed, index])
        samples = audio.num_samples(paths["mixture"])
        start = int(rng.random() * (max(samples - self.mix_length, 0) + 1))
        item = {
            role: audio.pad(audio.read(paths[role], start=start, length=self.mix_length), self.mix_length)
            for role in ("mixture", "target")
        }
        item["enrolment"] = audio.read_crop(paths["enrolment"], length=self.regi_length, position=rng.random())
        digest = hashlib.sha256(b"".join(item[role].tobytes() for role in sorted(item)))
        key = torch.tensor(int.from_bytes(digest.digest()[:7], "little"))
        return {**{name: torch.from_numpy(wav) for name, wav in item.items()}, "key": key}


def _check_lengths(mix_length: int, regi_length: int) -> None:
    if min(mix_length, regi_length) <= 0:
        raise ValueError(f"mix_length and regi_length must be above 0 samples, got {mix_length} and {regi_length}")
