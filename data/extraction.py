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

    With ``absent_share``, the enrolment of that part of the items is of a third talker, and their target is silence.
    Their mixtures are the same as without it but for the common scale, and all other items the same.

    Args:
        speakers: path of the speaker index, see ``data.speakers``.
        epoch_num: items in an epoch.
        mix_length, regi_length: samples of mixture and target, and of the enrolment.
        mixing: ``published`` or ``symmetric``, see ``data.mixing``.
        mix_range_db: the range of ``symmetric`` mixing.
        surroundings: puts each mixture into a room, noise and so on, see ``data.surroundings``; None: as they are.
        seed: of all draws.
        absent_share: in [0, 1): of items whose enrolled talker is not in the mixture.

    Raises:
        ValueError: a setting that cannot work, or fewer than three talkers for absent ones.
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
        absent_share: float = 0.0,
    ):
        if mixing not in MIXINGS:
            raise ValueError(f"mixing must be one of {', '.join(MIXINGS)}, got {mixing!r}")
        if mix_range_db < 0:
            raise ValueError(f"mix_range_db must not be negative, got {mix_range_db}")
        if not 0 <= absent_share < 1:
            raise ValueError(f"absent_share must be in [0, 1), got {absent_share}")
        _check_lengths(mix_length, regi_length)
        self.utterances = list(read_speakers(speakers).values())
        if absent_share and len(self.utterances) < 3:
            raise ValueError(
                f"absent_share {absent_share} takes an enrolment of a third talker, and {speakers} has "
                f"{len(self.utterances)}: add talkers, or set it to 0"
            )
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
        self.absent_share = absent_share

    def __len__(self) -> int:
        return self.epoch_num

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        """The item of (epoch, index): ``mixture`` [T], ``target`` [T] and ``enrolment`` [R], float32.

        With ``absent_share`` also ``present``, a truth value: whether the enrolled talker is in the mixture.
        """
        crops, level = self.draw(key)
        signals = (audio.read_crop(path, length=length, position=position) for path, length, position in crops)
        if self.mixing == "published":
            mixed = mix_published(*signals, draw=level)
        else:
            mixed = mix_symmetric(*signals, draw=level, range_db=self.mix_range_db)
        if self.surroundings:
            mixed = self._put_somewhere(mixed, key, [path for path, *_ in crops])
        item = {name: torch.from_numpy(wav) for name, wav in mixed._asdict().items()}
        return _with_presence(item, self.is_present(key)) if self.absent_share else item

    def is_present(self, key: tuple[int, int]) -> bool:
        """Whether the enrolled talker is in the mixture of (epoch, index)."""
        return not self.absent_share or self._rng_of_absence(key).random() >= self.absent_share

    def draw(self, key: tuple[int, int]) -> tuple[list[tuple[Path, int, float]], float]:
        """What the item of (epoch, index) is made of.

        Returns:
            File, samples and place in [0, 1) of target (of the first talker in the mixture, where the enrolled one is
            absent), interferer and enrolment; and the draw of their levels.
        """
        rng = np.random.default_rng([self.seed, *key])
        first, second = rng.choice(len(self.utterances), size=2, replace=False)
        chosen = rng.choice(len(self.utterances[first]), size=2, replace=False)
        target, enrolment = (self.utterances[first][i] for i in chosen)
        interferer = self.utterances[second][rng.integers(len(self.utterances[second]))]
        if not self.is_present(key):
            enrolment = self._of_a_third(key, first, second)
        files = ((target, self.mix_length), (interferer, self.mix_length), (enrolment, self.regi_length))
        return [(path, length, rng.random()) for path, length in files], rng.random()

    def _of_a_third(self, key: tuple[int, int], *others: int) -> Path:
        """An utterance of a talker who is none of ``others``."""
        rng = self._rng_of_absence(key)
        rng.random()  # said whether there is a third
        third = rng.choice([number for number in range(len(self.utterances)) if number not in others])
        return self.utterances[third][rng.integers(len(self.utterances[third]))]

    def _rng_of_absence(self, key: tuple[int, int]) -> np.random.Generator:
        """Draws of its own, so that all others are the same with and without absent talkers."""
        return np.random.default_rng([self.seed, *key, 1])

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

    With ``absent_path`` every mixture comes a second time, after all of the first: with the enrolment of a talker who
    is not in it, and silence for its target.

    Args:
        mix_path, clean_path, ref_path: lists of mixtures, clean targets and enrolments, matched by name.
        mix_length, regi_length: samples of mixture and target, and of the enrolment.
        seed: of the places.
        absent_path: a list of enrolments of talkers who are not in the mixture of that name; ``data.prepare.absent``
            makes one.
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
        absent_path: str | os.PathLike | None = None,
    ):
        _check_lengths(mix_length, regi_length)
        lists = {"mixture": mix_path, "target": clean_path, "enrolment": ref_path}
        self.has_absent = absent_path is not None
        self.entries = read_aligned(lists | ({"absent": absent_path} if self.has_absent else {}))
        self.mix_length = mix_length
        self.regi_length = regi_length
        self.seed = seed

    def __len__(self) -> int:
        return len(self.entries) * (1 + self.has_absent)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``mixture`` [T] and ``target`` [T], cut at the same place, and ``enrolment`` [R], float32; and ``key``.

        The key is a number that stands for all samples of the item: who has computed something from it may keep that.
        With ``absent_path`` also ``present``, as for ``OnTheFlyMixtures``.
        """
        if is_absent := self.has_absent and index >= len(self.entries):
            index -= len(self.entries)
        _, paths = self.entries[index]
        rng = np.random.default_rng([self.seed, index])
        samples = audio.num_samples(paths["mixture"])
        start = int(rng.random() * (max(samples - self.mix_length, 0) + 1))
        item = {
            role: audio.pad(audio.read(paths[role], start=start, length=self.mix_length), self.mix_length)
            for role in ("mixture", "target")
        }
        enrolment = paths["absent" if is_absent else "enrolment"]
        item["enrolment"] = audio.read_crop(enrolment, length=self.regi_length, position=rng.random())
        digest = hashlib.sha256(b"".join(item[role].tobytes() for role in sorted(item)))
        key = torch.tensor(int.from_bytes(digest.digest()[:7], "little"))
        tensors = {**{name: torch.from_numpy(wav) for name, wav in item.items()}, "key": key}
        return _with_presence(tensors, not is_absent) if self.has_absent else tensors


def _with_presence(item: dict[str, torch.Tensor], is_present: bool) -> dict[str, torch.Tensor]:
    """The item with what it is; nothing is to come out of a mixture without the talker."""
    target = item["target"] if is_present else torch.zeros_like(item["target"])
    return {**item, "target": target, "present": torch.tensor(is_present)}


def _check_lengths(mix_length: int, regi_length: int) -> None:
    if min(mix_length, regi_length) <= 0:
        raise ValueError(f"mix_length and regi_length must be above 0 samples, got {mix_length} and {regi_length}")
