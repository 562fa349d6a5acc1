"""The data set of extraction from several microphones with cues: mixture, target, voiceprint and face."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset
from tqdm import tqdm

from data import audio, faces
from data.cues import CUES, CueLists
from data.utterances import place
from utils.errors import USER_ERRORS, describe, first_few

log = logging.getLogger(__name__)


class Embedder(Protocol):
    """Makes voiceprints of audio."""

    def embed(self, wav: torch.Tensor) -> torch.Tensor:
        """Of 16 kHz audio [B, T]: [B, D]."""
        ...


class CuedMixtures(Dataset):
    """Mixtures with cues from lists: clips that are cut anew in every epoch, or whole files.

    An item is a function of the seed and its key: (epoch, index), in an order of the epoch's own, or an index, in the
    order of the list, where nothing is random but the place of a clip, which is the same each time.

    Args:
        lists: reads the lists, and what they name.
        path: folder of lists, or ten-field list.
        channels: microphones of a mixture; 1 takes the first of any file.
        clip_seconds: of a clip, which begins at a random multiple of 640 samples, the face in step; a shorter file is
            zero-padded at its end. None: whole files, as for validation.
        epoch_num: items in an epoch; None: as many as the list. More: the list again, in another order.
        cue_dropout: the probability that a cue of an item under (epoch, index) becomes zeros, each by itself.
        quieter_db: an item under (epoch, index) is made up to so many dB quieter, mixture and target alike.
        speaker_encoder: makes the voiceprints of enrolments in audio, each file's once, here; None: all enrolments are
            voiceprints.
        seed: of all draws.

    Raises:
        OSError, ValueError: as ``CueLists.training_rows``; or a value that is out of its range.
    """

    def __init__(
        self,
        *,
        lists: CueLists,
        path: str | os.PathLike,
        channels: int = 2,
        clip_seconds: float | None = None,
        epoch_num: int | None = None,
        cue_dropout: float = 0.0,
        quieter_db: float = 0.0,
        speaker_encoder: Embedder | None = None,
        seed: int = 0,
    ):
        if clip_seconds is not None and not round(clip_seconds * audio.SAMPLE_RATE) > 0:
            raise ValueError(f"clip_seconds must be above 0, got {clip_seconds}")
        if epoch_num is not None and not epoch_num > 0:
            raise ValueError(f"epoch_num must be above 0, or null for as many items as the list has, got {epoch_num}")
        if not 0 <= cue_dropout <= 1:
            raise ValueError(f"cue_dropout must be in [0, 1], got {cue_dropout}")
        if not 0 <= quieter_db < float("inf"):
            raise ValueError(f"quieter_db must be 0 or more, got {quieter_db}")
        self.lists = lists
        self.channels = channels
        self.clip_length = None if clip_seconds is None else round(clip_seconds * audio.SAMPLE_RATE)
        self.epoch_num = epoch_num
        self.cue_dropout = cue_dropout
        self.quieter_db = quieter_db
        self.seed = seed
        self.rows = lists.training_rows(path)
        self._made, self._unmade = self._embed_all(speaker_encoder)

    def __len__(self) -> int:
        return self.epoch_num or len(self.rows)

    def name(self, key: tuple[int, int] | int) -> str:
        """What the list calls an item."""
        return self.rows[place(key, len(self.rows), seed=self.seed)[0]][0]

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, torch.Tensor]:
        """An item, without padding where whole files are read.

        Returns:
            ``mixture`` [C, T] and ``target`` [T] float32, zero-padded at the end from ``length`` on; ``length``,
            samples, int64; ``sounding``, bool, False where the target is silent, and has no SI-SDR; and, of the cues in
            use, ``voiceprint`` [voiceprint_dim] and ``visual`` [ceil(T / 640), visual_dim], zeros where it is missing.

        Raises:
            OSError, ValueError: a file that cannot be read or does not fit the others; the message names it.
        """
        chosen, rng = place(key, len(self.rows), seed=self.seed)
        _, row = self.rows[chosen]
        # All numbers are drawn at once, so that no choice of cues or settings moves another draw.
        position, quieter, *dropped = rng.random(2 + len(CUES))
        samples = audio.num_samples(row["mixture"])
        if (others := audio.num_samples(row["target"])) != samples:
            raise ValueError(f"{row['target']} has {others} samples, its mixture {row['mixture']} has {samples}")
        length = self.clip_length or samples
        starts = max(samples - length, 0) // faces.HOP + 1
        start = faces.HOP * int(position * starts)
        segment = {"start": start, "length": length}
        mixture = audio.read_microphones(row["mixture"], count=self.channels, **segment)
        target = audio.read_microphones(row["target"], **segment)[0]
        item = {"length": torch.tensor(len(target)), "sounding": torch.tensor(bool(target.any()))}
        is_training = not isinstance(key, int)
        if is_training and self.quieter_db:
            gain = np.float32(10 ** (-quieter * self.quieter_db / 20))
            mixture, target = mixture * gain, target * gain
        item |= {"mixture": audio.pad(mixture, length), "target": audio.pad(target, length)}
        if "voiceprint" in self.lists.cues:
            item["voiceprint"] = self._voiceprint(row["enrolment"])
        if "visual" in self.lists.cues:
            item["visual"] = self._face(row.get("visual"), samples, start // faces.HOP, faces.frames(length))
        for cue, draw in zip(CUES, dropped, strict=True):
            if is_training and cue in item and draw < self.cue_dropout:
                item[cue] = np.zeros_like(item[cue])
        return {key: value if torch.is_tensor(value) else torch.from_numpy(value) for key, value in item.items()}

    @staticmethod
    def collate(items: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """A batch; signals and faces of unequal length are zero-padded at their ends, ``length`` tells where."""
        longest = {"mixture": 0, "target": 0, "visual": 0}
        batch = {}
        for key in items[0]:
            values = [item[key] for item in items]
            if key in longest:
                axis = -2 if key == "visual" else -1
                most = max(value.shape[axis] for value in values)
                missing = [most - value.shape[axis] for value in values]
                values = [
                    F.pad(value, (0, 0, 0, more) if key == "visual" else (0, more)) if more else value
                    for value, more in zip(values, missing, strict=True)
                ]
            batch[key] = torch.stack(values)
        return batch

    def _face(self, path: str | None, samples: int, first: int, count: int) -> np.ndarray:
        if path is None:
            return np.zeros((count, self.lists.visual_dim), dtype=np.float32)
        face = self.lists.face(path, samples)[first : first + count]
        return np.pad(face, ((0, count - len(face)), (0, 0)))

    def _voiceprint(self, enrolment: str) -> np.ndarray:
        if self.lists.is_voiceprint(enrolment):
            return self.lists.voiceprint(enrolment)
        if enrolment in self._unmade:
            raise ValueError(self._unmade[enrolment])
        return self._made[enrolment].copy()

    def _embed_all(self, speaker_encoder: Embedder | None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """The voiceprints of all enrolments in audio, and why others have none; before loaders fork processes."""
        made, unmade = {}, {}
        enrolments = {row["enrolment"] for _, row in self.rows if "enrolment" in row}
        todo = sorted(enrolment for enrolment in enrolments if not self.lists.is_voiceprint(enrolment))
        if todo and speaker_encoder is None:
            raise ValueError(f"{todo[0]} is audio, and there is no speaker_encoder that makes a voiceprint of it")
        with torch.no_grad():
            for path in tqdm(todo, desc="voiceprints", unit="file", disable=len(todo) < 100 or None):
                try:
                    wav = torch.from_numpy(self.lists.enrolment(path))[None]
                    made[path] = self.lists.made(speaker_encoder.embed(wav)[0].float().cpu().numpy(), path)
                except USER_ERRORS as error:
                    unmade[path] = describe(error)
        if todo and not made:
            raise ValueError(f"no enrolment has a voiceprint: {first_few(unmade.values(), 3)}")
        if unmade:
            log.warning("%d of %d enrolments have no voiceprint: %s", len(unmade), len(todo),
                        first_few(unmade.values(), 3))  # fmt: skip
        return made, unmade
