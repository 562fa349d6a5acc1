"""Extraction as a program: what stands in lists, and what is wrong with recordings, by name."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from models.interfaces import Item, Recording, Role
from models.limuse.cues import microphones
from models.limuse.extractor import Extractor, Source
from models.limuse.speaker_encoders import origin_of
from models.programs import SystemProgram

log = logging.getLogger(__name__)
Entries = tuple[dict[str, dict[str, str]], dict[str, str]]  # name -> role -> file; name -> problem
LOOKED_AT = 30  # seconds of a recording in which channels are compared


class Lists(Protocol):
    """Reads lists of mixtures with cues, and what they name; see ``data.cues.CueLists``."""

    def entries(self, where: str | os.PathLike) -> Entries: ...
    def is_voiceprint(self, enrolment: str) -> bool: ...
    def voiceprint(self, enrolment: str) -> np.ndarray: ...
    def enrolment(self, path: str) -> np.ndarray: ...
    def made(self, values: np.ndarray, path: str) -> np.ndarray: ...
    def face(self, path: str, samples: int) -> np.ndarray: ...


class Extract(SystemProgram):
    """A mixture of several microphones and cues of one talker -> his speech at the first.

    Args:
        extractor: with its cues.
        lists: reads what the lists name.
    """

    def __init__(self, *, extractor: Extractor, lists: Lists):
        super().__init__({"extractor": extractor}, batch_seconds=extractor.batch_seconds)
        self.extractor = extractor
        self.lists = lists
        cues = extractor.network.cues
        self.inputs = {"mixture": Role("audio", "mix_clean.scp", sample_rate=extractor.sample_rate, channels=None)}
        if "voiceprint" in cues:
            self.inputs["enrolment"] = Role("file", "aux_s1.scp")
        if "visual" in cues:
            self.inputs["visual"] = Role("file", "visual_s1.scp", optional=True)
        self.results = {"speech": Role("audio", ".wav", sample_rate=extractor.sample_rate)}
        self._embedded: dict[str, torch.Tensor] = {}

    def entries(self, where: str | os.PathLike) -> Entries:
        """Of a folder of lists, or a ten-field list."""
        return self.lists.entries(where)

    def facts(self) -> Mapping[str, Any]:
        return {
            "sample_rate": self.extractor.sample_rate,
            "channels": self.extractor.network.channels,
            "cues": list(self.extractor.network.cues),
            "voiceprints": origin_of(self.extractor.speaker_encoder),
        }

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        return [{"speech": parts} for parts in self.extractor.stream([self._source(item) for item in items])]

    def _source(self, item: Item) -> Source:
        mixture = item["mixture"]
        name = mixture.source or item.name
        tell_of_channels(mixture, self.extractor.network.channels, self.extractor.sample_rate, name)
        voiceprint = visual = None
        if "enrolment" in self.inputs:
            voiceprint = self._voiceprint(item["enrolment"])
        if "visual" in self.inputs:
            visual = self._visual(item.inputs.get("visual"), mixture.samples)
        return Source(mixture, voiceprint, visual, name)

    def _voiceprint(self, enrolment: str) -> torch.Tensor:
        """[D]; of audio it is made once."""
        if self.lists.is_voiceprint(enrolment):
            return torch.from_numpy(self.lists.voiceprint(enrolment))
        if enrolment not in self._embedded:
            if self.extractor.speaker_encoder is None:
                raise ValueError(
                    f"{enrolment} is audio, and speaker_encoder=files takes .npy voiceprints alone: set "
                    "speaker_encoder and speaker_encoder_path"
                )
            wav = torch.from_numpy(self.lists.enrolment(enrolment))[None]
            made = self.lists.made(self.extractor.voiceprint_of(wav)[0].numpy(), enrolment)
            self._embedded[enrolment] = torch.from_numpy(made)
        return self._embedded[enrolment]

    def _visual(self, path: str | None, samples: int) -> torch.Tensor:
        if path is not None:
            return torch.from_numpy(self.lists.face(path, samples))
        frames = -(-samples // 640)
        return torch.zeros(frames, self.extractor.network.visual_dim)


class Voiceprints(SystemProgram):
    """Enrolment audio -> its voiceprint, [voiceprint_dim] float32, by the recipe's speaker encoder.

    Args:
        extractor: of which only the speaker encoder is asked.
        lists: reads enrolments, and checks what is made of them.

    Raises:
        ValueError: there is no speaker encoder.
    """

    record = "voiceprints.json"

    def __init__(self, *, extractor: Extractor, lists: Lists):
        encoder = extractor.speaker_encoder
        if encoder is None:
            raise ValueError("speaker_encoder and speaker_encoder_path must be set: they make voiceprints of audio")
        super().__init__({"speaker_encoder": encoder}, batch_seconds=0.0)
        self.extractor = extractor
        self.lists = lists
        rate = extractor.sample_rate
        self.inputs = {"enrolment": Role("audio", "aux_s1.scp", sample_rate=rate, channels=None)}
        self.results = {"voiceprint": Role("array", ".npy")}

    def facts(self) -> Mapping[str, Any]:
        return {"voiceprints": origin_of(self.extractor.speaker_encoder)}

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        return [{"voiceprint": self._of(item["enrolment"].source)} for item in items]

    def _of(self, path: str) -> torch.Tensor:
        wav = torch.from_numpy(self.lists.enrolment(path))[None]
        return torch.from_numpy(self.lists.made(self.extractor.voiceprint_of(wav)[0].numpy(), path))


def tell_of_channels(mixture: Recording, channels: int, sample_rate: int, name: str) -> None:
    """Warn of channels that are equal, or of one that is silent: they tell nothing of where a talker is.

    Raises:
        ValueError: the recording has another number of channels.
    """
    wav = microphones(mixture.read(0, LOOKED_AT * sample_rate), channels)
    if channels == 1 or not bool(wav.any()):
        return
    for number, channel in enumerate(wav, start=1):
        if not bool(channel.any()):
            log.warning("%s: channel %d is silent, so the place of the talker is no cue", name, number)
            return
    for number, channel in enumerate(wav[1:], start=2):
        if torch.equal(channel, wav[0]):
            log.warning("%s: channels 1 and %d are equal, so the place of the talker is no cue", name, number)
