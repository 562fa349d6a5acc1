"""Crops of utterances with the features that a teacher made of the same frames, if there are such."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from data import audio
from data.scp import output_path
from data.utterances import place, read_utterances
from modules.frames import FrameGrid
from utils.errors import describe, first_few
from utils.files import require_file

RECORD = "features.json"  # of a folder of features: what they are
GRID = FrameGrid()  # of the features in lists of the public form


class FeatureCrops(Dataset):
    """A crop of every utterance, each once in an epoch, and the features of its frames.

    An item is a function of the seed and its key: (epoch, index), shuffled and cut anew in each epoch at a place that
    is a multiple of ``hop_length``, or an index, in the order of the list and always cut from the beginning.

    Features come from a folder of ``NAME.npy``, [ceil(T / hop), S] with a record of what they are (``features.json``);
    or the list itself is of the public form, lines ``audio<TAB>features.npy``, whose features [1, N', S] were made
    without zeros before the speech, N' = (T - 400) // 320 + 1, and are used frame for frame.

    Args:
        utterances: list, speaker index or public list, see ``read_feature_list``.
        length: samples of a crop.
        hop_length: samples of a frame.
        sample_rate: Hz of the crops.
        features: the folder, None without one.
        dim: S, which all features must have.
        facts: what the record of the folder must say.
        are_needed: without features is an error.
        seed: of order and places.
        limit: only so many utterances, evenly spread over the list; None: all.

    Raises:
        FileNotFoundError: a list, folder or file is missing.
        ValueError: the features are not what is expected, or there are none; or they do not fit their audio, which is
            named with both numbers of frames.
    """

    def __init__(
        self,
        *,
        utterances: str | os.PathLike,
        length: int,
        hop_length: int,
        sample_rate: int = audio.SAMPLE_RATE,
        features: str | os.PathLike | None = None,
        dim: int | None = None,
        facts: Mapping[str, Any] | None = None,
        are_needed: bool = False,
        seed: int = 0,
        limit: int | None = None,
    ):
        if length <= 0 or length % hop_length or (limit is not None and limit <= 0):
            raise ValueError(
                f"the length of a crop must be a multiple of {hop_length} samples, a frame, and limits above 0; got "
                f"{length} and {limit}"
            )
        pairs, self.is_public = read_feature_list(utterances)
        if features is not None and self.is_public:
            raise ValueError(f"{utterances} names features itself: leave out the folder {features}")
        if are_needed and features is None and not self.is_public:
            raise ValueError(
                "distill_weight is above 0, so there must be a teacher: teacher_path, the folder of one, or its "
                "features, train_features and valid_features"
            )
        if features is not None:
            _require_record(Path(features), facts or {})
            pairs = {name: (path, output_path(features, name, ".npy")) for name, (path, _) in pairs.items()}
            if missing := [file for _, file in pairs.values() if not file.is_file()]:
                raise FileNotFoundError(
                    f"features of {len(missing)} of {len(pairs)} utterances are missing in {features}: "
                    f"{first_few(file.name for file in missing)}"
                )
        kept = list(pairs.values())
        if limit is not None and limit < len(kept):
            kept = [kept[i * len(kept) // limit] for i in range(limit)]
        self.pairs: Sequence[tuple[Path, Path | None]] = kept
        self.length = length
        self.hop_length = hop_length
        self.sample_rate = sample_rate
        self.dim = dim
        self.has_features = self.is_public or features is not None
        self.seed = seed
        if self.has_features:
            with ThreadPoolExecutor(8) as pool:  # the disk answers while others are asked
                problems = [problem for problem in pool.map(self._why_not, kept) if problem]
            if problems:
                raise ValueError(
                    f"{len(problems)} of {len(kept)} features of {utterances} do not fit: {first_few(problems, 3)}"
                )

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, key: tuple[int, int] | int) -> str:
        """The file of an item."""
        return str(self.pairs[place(key, len(self.pairs), seed=self.seed)[0]][0])

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, torch.Tensor]:
        """An item.

        Returns:
            ``wav`` [T] float32, zeros at its end in training; ``length``, its samples that are no padding; ``index``,
            its place in the epoch; and, where there are features, ``features`` [n, S] float32 and ``frames``, how many
            of them are real.
        """
        chosen, rng = place(key, len(self.pairs), seed=self.seed)
        path, file = self.pairs[chosen]
        start = 0
        if not isinstance(key, int):
            total = audio.num_samples(path, sample_rate=self.sample_rate)
            start = self.hop_length * int(rng.random() * (max(total - self.length, 0) // self.hop_length + 1))
        wav = audio.read(path, start=start, length=self.length, sample_rate=self.sample_rate)
        samples = len(wav)
        wav = wav if isinstance(key, int) else audio.pad(wav, self.length)
        item = {
            "wav": torch.from_numpy(wav),
            "length": torch.tensor(samples),
            "index": torch.tensor(key if isinstance(key, int) else key[1]),
        }
        if file is not None:
            first = start // self.hop_length
            rows = _open(file)[first : first - (-samples // self.hop_length)].astype(np.float32)
            item |= {"features": torch.from_numpy(rows), "frames": torch.tensor(len(rows))}
        return item

    @staticmethod
    def collate(items: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """A batch, in which shorter items have zeros at their end."""
        return {
            name: pad_sequence([item[name] for item in items], batch_first=True)
            if name in ("wav", "features")
            else torch.stack([item[name] for item in items])
            for name in items[0]
        }

    def _why_not(self, pair: tuple[Path, Path]) -> str | None:
        """Why features are not those of an utterance, None if they can be."""
        path, file = pair
        try:
            found = _open(file)
            samples = audio.num_samples(path, sample_rate=self.sample_rate)
        except (ValueError, OSError) as error:
            return describe(error)
        if self.dim is not None and found.shape[1] != self.dim:
            return f"{file} has {found.shape[1]} channels, semantic_dimension is {self.dim}"
        wanted = GRID.frames(samples) if self.is_public else -(-samples // self.hop_length)
        if len(found) != wanted:
            return f"{file} has {len(found)} frames, {path} of {samples} samples has {wanted}"
        return None


def read_feature_list(path: str | os.PathLike) -> tuple[dict[str, tuple[Path, Path | None]], bool]:
    """name -> audio and, of a list of the public form, features; and whether the list is of that form.

    The public form has lines ``audio<TAB>features.npy``, whose paths are absolute or relative to the list. All other
    lists are those of ``data.utterances.read_utterances``.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: it is of no form, or of two.
    """
    path = Path(path)
    if path.suffix not in (".json", ".pt") and path.is_file():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        split = [line.split("\t") for line in lines]
        public = [len(parts) == 2 and parts[1].strip().endswith(".npy") for parts in split]
        if lines and all(public):
            named = {sound: (path.parent / sound, path.parent / file.strip()) for sound, file in split}
            if len(named) < len(lines):
                raise ValueError(f"{path} names an audio file more than once")
            return named, True
        if any(public):
            line = public.index(False)
            raise ValueError(f"{path}: line {line + 1} is not of the form audio<TAB>features.npy, as others are")
    return {name: (file, None) for name, file in read_utterances(path).items()}, False


def _open(file: Path) -> np.ndarray:
    """Features [N, S] of a file, not yet read: only what is used of them will be.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    require_file(file)
    try:
        stored = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # a broken file raises almost anything
        raise ValueError(f"{file} cannot be read as features ({describe(error)})") from error
    if stored.ndim == 3 and len(stored) == 1:
        stored = stored[0]
    if stored.ndim != 2 or stored.dtype.kind != "f":
        raise ValueError(f"{file} must hold floats [N, S] or [1, N, S], it has {stored.dtype} {list(stored.shape)}")
    return stored


def read_record(features: str | os.PathLike | None) -> dict[str, Any] | None:
    """What a folder of features says that they are; None of no folder.

    Raises:
        FileNotFoundError: there is no such folder, or no record in it.
        ValueError: the record is none.
    """
    if features is None:
        return None
    folder = Path(features)
    how = "make them with: python -m models.speechtokenizer.teacher_features LIST --output DIR --config_path RECIPE"
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of features: {folder}; {how}")
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {RECORD}, which says what its features are; {how}")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} does not say what the features are ({describe(error)}); {how}") from error


def _require_record(folder: Path, facts: Mapping[str, Any]) -> None:
    found = read_record(folder)
    if differing := [f"{k} {found.get(k)} there, {v} in the recipe" for k, v in facts.items() if found.get(k) != v]:
        raise ValueError(
            f"the features of {folder} are not those that the recipe is for: {'; '.join(differing)}; make them with: "
            "python -m models.speechtokenizer.teacher_features LIST --output DIR --config_path RECIPE"
        )
