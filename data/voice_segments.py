"""Segments of speech with units, a contour and a speaker, for the trainings of speech resynthesis."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from data import audio
from data.manifest import Utterance, names_of, read_manifest, speaker_of
from data.pitch import HOP, SAMPLE_RATE, PitchTracker, at_level
from data.utterances import place
from data.voices import F0Statistics
from utils.errors import first_few

GRID = 1280  # samples on which units, contours and their codes meet
F0_EDGE = 320  # samples; contours without units are cut at multiples of it


class VoiceSegments(Dataset):
    """A segment of every utterance of a manifest, each once in an epoch.

    A file is read at 16 kHz, divided by its peak and multiplied by 0.95, and cut to its whole units. Its contour is
    tracked once, as a whole. What is shorter than a segment is doubled, units and contour alike, until it is long
    enough. An item is a function of the seed and its key: (epoch, index), shuffled and cut anew in each epoch, or an
    index, in the order of the manifest and always cut from the beginning.

    Args:
        manifest: see ``data.manifest``; lines may be bare paths where no units are needed.
        segment: samples of an item, a multiple of 1280.
        code_hop: samples of a unit.
        num_units: V of the units that items have; None: they have none.
        tracker: of F0; None: items have no contour.
        interpolated: contours have their gaps filled.
        statistics: mean and deviation of F0 by speaker; None: items have none.
        f0_source: ``speaker``, or ``utterance``: the utterance's own mean and deviation.
        speaker_from: see ``data.manifest.speaker_of``.
        names: of the speakers, in the order of their ids; None: items have no id.
        embeddings: vectors by the name of an utterance or a speaker; None: items have none.
        audio_root, limit: as for ``data.manifest.read_manifest``.
        items: only so many utterances, evenly spread over the manifest; None: all.
        at_least: items of an epoch; a manifest with fewer lines is gone through several times.
        seed: of order and places.

    Raises:
        OSError, ValueError: the manifest has bad lines; a segment is off the grid; speakers that nobody knows, or of
            whom there are no statistics.
    """

    def __init__(
        self,
        *,
        manifest: str | os.PathLike,
        segment: int,
        code_hop: int = F0_EDGE,
        num_units: int | None = None,
        tracker: PitchTracker | None = None,
        interpolated: bool = False,
        statistics: F0Statistics | None = None,
        f0_source: str = "speaker",
        speaker_from: str = "_",
        names: Sequence[str] | None = None,
        embeddings: Mapping[str, torch.Tensor] | None = None,
        audio_root: str | os.PathLike | None = None,
        limit: int | None = None,
        items: int | None = None,
        at_least: int = 1,
        seed: int = 0,
    ):
        if segment <= 0 or segment % GRID:
            raise ValueError(f"segment must be a multiple of {GRID} samples, got {segment}")
        if (limit is not None and limit < 1) or (items is not None and items < 1):
            raise ValueError(f"limits must be above 0, got limit {limit} and {items} items")
        hop = None if num_units is None else code_hop
        kept = read_manifest(manifest, vocab_size=num_units, hop=hop, audio_root=audio_root, limit=limit)
        if items is not None and items < len(kept):
            kept = [kept[i * len(kept) // items] for i in range(items)]
        self.utterances: Sequence[Utterance] = kept
        self.speakers = [speaker_of(one.audio, speaker_from, named=one.speaker) for one in kept]
        self.segment = segment
        self.code_hop = code_hop
        self.has_units = num_units is not None
        self.tracker = tracker
        self.interpolated = interpolated
        self.statistics = statistics
        self.f0_source = f0_source
        self.names = None if names is None else list(names)
        self.embeddings = embeddings
        self._names = names_of([one.audio for one in kept]) if embeddings is not None else []
        self.count = max(len(kept), -(-at_least // len(kept)) * len(kept))
        self.seed = seed
        self._require_known(manifest)

    def __len__(self) -> int:
        return self.count

    def name(self, key: tuple[int, int] | int) -> str:
        """The file of an item."""
        return self.utterances[self._chosen(key)[0]].audio

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, torch.Tensor]:
        """An item.

        Returns:
            ``wav`` [T] float32; ``index``, its place in the epoch; and, where they are asked for, ``units`` [T / hop]
            int64, ``f0`` [T / 80] in Hz, ``f0_stats`` [2] and ``f0_median`` in Hz, and ``speaker``, an id or a vector
            [E].
        """
        chosen, rng = self._chosen(key)
        one, speaker = self.utterances[chosen], self.speakers[chosen]
        recorded = audio.read(one.audio, sample_rate=SAMPLE_RATE)
        whole = at_level(recorded)
        frames = len(whole) // self.code_hop
        frames = frames if one.units is None else min(frames, len(one.units))
        if frames == 0:
            raise ValueError(f"{one.audio} is shorter than a unit: {len(whole)} samples of {self.code_hop}")
        streams = {"wav": (whole, 1)}
        if self.has_units:
            streams["units"] = (one.units, self.code_hop)
        item = {"index": torch.tensor(key if isinstance(key, int) else key[1])}
        if self.tracker is not None:
            contour = self.tracker(recorded, what=one.audio)
            f0 = contour.interpolated if self.interpolated else contour.f0
            streams["f0"] = (f0, HOP)
            item |= self._pair_of(f0, speaker)
        needed = self.segment // self.code_hop
        last = max(frames, needed) - needed
        start = 0 if isinstance(key, int) else int(rng.random() * (last + 1))
        for name, (values, hop) in streams.items():
            each = self.code_hop // hop  # values of a unit
            values = values[: frames * each]
            values = np.tile(values, -(-needed // frames)) if frames < needed else values
            item[name] = torch.from_numpy(values[start * each : (start + needed) * each].copy())
        if self.embeddings is not None:
            item["speaker"] = self.embeddings[self._vector_name(chosen)]
        elif self.names is not None:
            item["speaker"] = torch.tensor(self.names.index(speaker))
        return item

    def _chosen(self, key: tuple[int, int] | int) -> tuple[int, np.random.Generator]:
        number, rng = place(key, self.count, seed=self.seed)
        return number % len(self.utterances), rng

    def _pair_of(self, f0: np.ndarray, speaker: str) -> dict[str, torch.Tensor]:
        """Mean and deviation to normalise a contour by, and its median."""
        voiced = f0[f0 != 0].astype(np.float64)
        median = float(np.median(voiced)) if len(voiced) else 0.0
        pair: tuple[float, float] = (0.0, 0.0)
        if self.f0_source == "utterance":
            pair = (float(voiced.mean()), float(voiced.std())) if len(voiced) else pair
        elif self.statistics is not None:
            pair = self.statistics.of(speaker) or pair
        return {"f0_stats": torch.tensor(pair, dtype=torch.float32), "f0_median": torch.tensor(median)}

    def _vector_name(self, chosen: int) -> str:
        """The utterance's, in the manifest or its file's, else the speaker's."""
        stem = os.path.splitext(os.path.basename(self.utterances[chosen].audio))[0]
        return next((name for name in (self._names[chosen], stem) if name in self.embeddings), self.speakers[chosen])

    def _require_known(self, manifest: str | os.PathLike) -> None:
        found = sorted(set(self.speakers))
        if self.names is not None:
            if unknown := [name for name in found if name not in self.names]:
                raise ValueError(
                    f"{manifest} has speakers that the training does not have: {first_few(unknown)}. Its speakers are "
                    f"{first_few(self.names)} (speakers, or else those of train_path)"
                )
            if self.statistics is not None:
                self.statistics.named(self.names)
        if self.embeddings is not None:
            names = {self._vector_name(i) for i in range(len(self.utterances))}
            if lacking := sorted(names - self.embeddings.keys()):
                raise ValueError(f"speaker_embeddings has no vectors of {first_few(lacking)}")
        if self.tracker is not None and self.statistics is not None and self.f0_source == "speaker":
            if self.statistics.path is None:
                raise ValueError("f0_stats must be set: the file that python -m data.prepare.f0 writes")
            if lacking := [name for name in found if self.statistics.of(name) is None]:
                raise ValueError(
                    f"{self.statistics.path} has no F0 of the speakers {first_few(lacking)} of {manifest}, and nothing "
                    "global: make it of these files, or f0_source=utterance"
                )
