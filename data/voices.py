"""Who speaks: names of speakers, their F0, their vectors, and the lists that tell them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.manifest import (
    ONE_SPEAKER,
    is_manifest,
    names_of,
    read_manifest,
    require_rule,
    speaker_of,
)
from data.plain_text import read_text
from data.scp import Listed, raise_for, read_list
from data.speakers import read_index
from data.utterances import list_utterances
from utils.errors import first_few
from utils.files import write_text
from utils.numpy_pickles import load_torch_numbers
from utils.tensor_files import load_safetensors

Entries = tuple[dict[str, dict[str, str]], dict[str, str]]


def read_names(path: str | os.PathLike) -> list[str]:
    """speakers.txt: a name a line; line i is id i.

    Raises:
        OSError, ValueError: it cannot be read, is empty, or has a name twice.
    """
    names = [line.strip() for line in read_text(path, "list of speakers").split("\n")]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        raise ValueError(f"{path} must hold a name in each line, from the first on")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path} names {first_few(twice)} more than once")
    return names


def write_names(path: str | os.PathLike, names: Sequence[str]) -> None:
    write_text(path, "".join(f"{name}\n" for name in names))


def known_names(*, speakers: str | os.PathLike | None, speaker_from: str) -> list[str] | None:
    """The names of ``speakers``, or the one of ``single``; None where only a checkpoint knows them."""
    require_rule(speaker_from)
    if speakers is not None:
        return read_names(speakers)
    return [ONE_SPEAKER] if speaker_from == "single" else None


def training_names(
    *, speakers: str | os.PathLike | None, manifest: str | os.PathLike, speaker_from: str, audio_root: str | None = None
) -> list[str]:
    """The names of a training's speakers: those of ``speakers``, or the sorted ones of its manifest."""
    if (known := known_names(speakers=speakers, speaker_from=speaker_from)) is not None:
        return known
    lines = read_manifest(manifest, audio_root=audio_root)
    return sorted({speaker_of(one.audio, speaker_from, named=one.speaker) for one in lines})


class F0Statistics:
    """Mean and deviation of F0 in Hz, of each speaker and over all.

    Args:
        path: our JSON, ``{"global": {...}, "speakers": {name: {...}}}``; or a public pickle, of one pair or of pairs by
            id; None: there are none.
        names: file with the names that ids stand for; None: they are told later, by ``named``.

    Raises:
        OSError, ValueError: a file cannot be read, holds anything else, or ids that are not as many as the names.
    """

    def __init__(self, path: str | os.PathLike | None, *, names: str | os.PathLike | None = None):
        self.path = path
        self.whole: tuple[float, float] | None = None
        self.by_name: dict[str, tuple[float, float]] = {}
        self._by_id: list[tuple[float, float]] = []
        if path is None:
            return
        if Path(path).suffix == ".json":
            self._read_json(Path(path))
        else:
            self._read_public(Path(path))
        if names is not None and self._by_id:
            self.named(read_names(names))

    def named(self, names: Sequence[str]) -> None:
        """Say whose the ids are; no matter where they are known already.

        Raises:
            ValueError: there are more or fewer ids than names.
        """
        if not self._by_id or self.by_name:
            return
        if len(names) != len(self._by_id):
            raise ValueError(
                f"{self.path} has statistics of {len(self._by_id)} speakers, and there are {len(names)} names: "
                "f0_stats_speakers names the file with those that it was made for"
            )
        self.by_name = dict(zip(names, self._by_id, strict=True))

    def of(self, name: str | None) -> tuple[float, float] | None:
        """Mean and deviation of a speaker, else those over all, else None."""
        return self.by_name.get(name, self.whole)

    def facts(self) -> dict[str, object]:
        """All of it as plain values, for a record."""
        return {"global": self.whole, "speakers": self.by_name or self._by_id}

    def _read_json(self, path: Path) -> None:
        try:
            content = json.loads(read_text(path, "file of F0 statistics"))
            self.by_name = {str(name): _pair(value) for name, value in content.get("speakers", {}).items()}
            self.whole = _pair(content["global"]) if content.get("global") else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} does not hold F0 statistics: {error}") from error

    def _read_public(self, path: Path) -> None:
        content = load_torch_numbers(path)
        try:
            if set(content) == {"f0_mean", "f0_std"}:
                self.whole = _pair(content)
                return
            ids = sorted(int(key) for key in content)
            if ids != list(range(len(ids))):
                raise ValueError(f"its ids are {first_few(ids)}, not 0 to {len(ids) - 1}")
            self._by_id = [_pair(value) for _, value in sorted(content.items(), key=lambda item: int(item[0]))]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} does not hold F0 statistics: {error}") from error


def _pair(value: Mapping[str, float]) -> tuple[float, float]:
    mean, std = float(value["f0_mean"]), float(value["f0_std"])
    if not (np.isfinite(mean) and np.isfinite(std) and std >= 0):
        raise ValueError(f"mean {mean} and deviation {std} are not finite, or below 0")
    return mean, std


def read_embeddings(path: str | os.PathLike | None) -> dict[str, torch.Tensor]:
    """Vectors of voices by name, [E] each, of a safetensors file; none of None."""
    if path is None:
        return {}
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no such file: {path}")
    found = {name: x.float() for name, x in load_safetensors(Path(path)).items()}
    if len({x.shape for x in found.values()}) != 1 or next(iter(found.values())).ndim != 1:
        raise ValueError(f"{path} must hold vectors [E] of one length, by name")
    return found


class Wanted:
    """What a training's items hold, as its network asks for it; None for what it does not take.

    Args:
        f0_mode, f0_normalize, f0_feats, unit_mode, speaker_mode, num_units: of the recipe.
        tracker, statistics, embeddings: what there is; the last is a file.
        speakers, manifest, speaker_from, audio_root: who speaks, see ``training_names``.

    Attributes:
        num_units, tracker, statistics, names, embeddings: as ``data.voice_segments.VoiceSegments`` takes them.
    """

    def __init__(
        self,
        *,
        tracker: Any,
        statistics: F0Statistics,
        speaker_from: str,
        manifest: str | os.PathLike,
        speakers: str | os.PathLike | None = None,
        audio_root: str | None = None,
        f0_mode: str = "quantised",
        f0_normalize: bool = True,
        f0_feats: bool = False,
        unit_mode: str = "learned",
        speaker_mode: str = "table",
        num_units: int | None = None,
        embeddings: str | os.PathLike | None = None,
    ):
        self.num_units = num_units if unit_mode == "codes" else None
        self.tracker = None if f0_mode == "none" else tracker
        self.statistics = statistics if self.tracker is not None and (f0_normalize or f0_feats) else None
        who = {"speakers": speakers, "manifest": manifest, "speaker_from": speaker_from, "audio_root": audio_root}
        self.names = training_names(**who) if speaker_mode == "table" else None
        self.embeddings = None
        if speaker_mode == "embedding":
            if embeddings is None:
                raise ValueError("speaker_embeddings must be set: a safetensors file of vectors by name")
            self.embeddings = read_embeddings(embeddings)


class VoiceLists:
    """Lists of speech with who speaks in it: what ``--resynthesise`` and ``--decode`` are given.

    Args:
        speaker_from: see ``data.manifest.speaker_of``.
        num_units, code_hop: of the units of manifests.
        audio_root: folder that a manifest's paths are relative to; None: its own.
        limit: only so many of the first rows; None: all.
    """

    def __init__(
        self,
        *,
        speaker_from: str,
        num_units: int,
        code_hop: int,
        audio_root: str | os.PathLike | None = None,
        limit: int | None = None,
    ):
        require_rule(speaker_from)
        self.speaker_from = speaker_from
        self.num_units = num_units
        self.code_hop = code_hop
        self.audio_root = audio_root
        self.limit = limit

    def audio(self, where: str | os.PathLike) -> Entries:
        """name -> ``audio`` and ``source`` of a list or a speaker index; name -> problem."""
        listed = list_utterances(where)
        owners: dict[str, str] = {}
        if Path(where).suffix in (".json", ".pt"):
            owners = {str(file): speaker for speaker, files in read_index(where).items() for file in files}
        entries = {
            name: {"audio": path, "source": owners.get(path) or self._speaker(path)}
            for name, path in self._first(listed.entries).items()
        }
        return entries, listed.problems

    def is_manifest(self, where: str | os.PathLike) -> bool:
        return is_manifest(where)

    def manifest(self, where: str | os.PathLike, *, with_units: bool = True) -> Entries:
        """name -> ``audio``, ``units`` and ``source`` of a manifest."""
        sizes = {"vocab_size": self.num_units, "hop": self.code_hop} if with_units else {}
        lines = read_manifest(where, audio_root=self.audio_root, limit=self.limit, **sizes)
        entries = {}
        for name, one in zip(names_of([one.audio for one in lines]), lines, strict=True):
            entries[name] = {"audio": one.audio, "source": speaker_of(one.audio, self.speaker_from, named=one.speaker)}
            if one.units is not None:
                entries[name]["units"] = " ".join(map(str, one.units))
        return entries, {}

    def tokens(self, where: str | os.PathLike) -> Entries:
        """name -> ``tokens`` of a list."""
        listed: Listed = read_list(where)
        return {name: {"tokens": path} for name, path in self._first(listed.entries).items()}, listed.problems

    def _speaker(self, path: str) -> str:
        rule = "_" if self.speaker_from == "manifest" else self.speaker_from
        return speaker_of(path, rule)

    def _first(self, entries: Mapping[str, str]) -> dict[str, str]:
        return dict(list(entries.items())[: self.limit])


def read_utterances_with_speakers(path: str | os.PathLike, *, speaker_from: str) -> list[tuple[str, str, str]]:
    """(name, path, speaker) of every file of a list or a speaker index."""
    entries, problems = VoiceLists(speaker_from=speaker_from, num_units=1, code_hop=1).audio(path)
    raise_for(problems.values())
    return [(name, entry["audio"], entry["source"]) for name, entry in entries.items()]
