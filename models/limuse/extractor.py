"""Extraction: recordings of any length in windows, levels, and what is handed to the network."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.interfaces import Recording
from models.limuse.cues import as_faces, as_mixtures, as_voiceprints, microphones
from models.limuse.files import load_weights
from models.limuse.levels import Level
from models.limuse.network import LiMuSE
from models.limuse.speaker_encoders import ECAPA, FILES, XVector, origin_of
from models.limuse.windows import FACE_HOP, Window, Windows
from modules.frozen import tensor_digest

SAMPLE_RATE = 16000
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A mixture that is read as it is needed, and the cues of the talker to extract.

    Attributes:
        mixture: its channels; the last sample's place says how long.
        voiceprint: [D], if it is a cue.
        visual: [ceil(T / 640), visual_dim], if it is a cue; zeros where there is no face.
        name: of the file, for the log.
    """

    mixture: Recording
    voiceprint: torch.Tensor | None
    visual: torch.Tensor | None
    name: str = "the mixture"


class Extractor(nn.Module):
    """Extracts a talker at the level that he has in the recording.

    Args:
        network: the trained part.
        speaker_encoder: makes voiceprints of audio; None: they are given.
        piece_seconds: of a window; a recording that is not longer is computed as one.
        overlap_seconds: of windows, in the middle of which they are cross-faded.
        level: ``mixture``: the output y is scaled by <x, y> / <y, y>, x the first channel, where that is above 0;
            ``raw``: it stays as the network gives it.
        remove_mean: with ``level: mixture``, a recording's output is made free of its mean, which SI-SDR, and so the
            training, leaves any; before it is scaled.
        batch_seconds: of windows of one length that are computed together, but at least one.
        thresholds_path: of a released quantised checkpoint; None: ``bias.npy`` beside it.

    Raises:
        ValueError: a level that is none, or windows that cannot be.
    """

    sample_rate = SAMPLE_RATE

    def __init__(
        self,
        *,
        network: LiMuSE,
        speaker_encoder: XVector | ECAPA | None = None,
        piece_seconds: float = 12.0,
        overlap_seconds: float = 1.0,
        level: str = "mixture",
        remove_mean: bool = False,
        batch_seconds: float = 12.0,
        thresholds_path: Path | None = None,
    ):
        super().__init__()
        self.windows = Windows(
            piece_seconds=piece_seconds, overlap_seconds=overlap_seconds, sample_rate=self.sample_rate
        )
        self.network = network
        self.speaker_encoder = speaker_encoder
        self.level = Level(level, remove_mean)
        self.batch_seconds = batch_seconds
        self.thresholds_path = thresholds_path
        self.eval()

    def load_checkpoint(self, path: str | os.PathLike) -> None:
        """Load trained weights; quantised ones become their hard values.

        Raises:
            FileNotFoundError: there is no such file, or no thresholds that belong to it.
            ValueError: it is broken, holds code, does not fit the recipe, or was trained with voiceprints of another
                speaker encoder.
        """
        settings = load_weights(self.network, path, thresholds_path=self.thresholds_path)
        self.network.harden()
        if "voiceprint" in self.network.cues and "voiceprints" in settings:
            self._compare_origins(str(settings["voiceprints"]), path)

    def _compare_origins(self, then: str, path: str | os.PathLike) -> None:
        here = origin_of(self.speaker_encoder)
        if then == here:
            return
        facts = f"{path} was trained with voiceprints of {_shown(then)}, the recipe names {_shown(here)}"
        if FILES in (then, here):  # files may be of any encoder, also the right one
            log.warning("%s: are they of the same encoder?", facts)
        else:
            raise ValueError(f"{facts}: other voiceprints, other talkers; set speaker_encoder and speaker_encoder_path")

    def digests(self) -> dict[str, str]:
        """SHA-256 of the weights of each part."""
        parts = {"network": tensor_digest(self.network.state_dict())}
        if self.speaker_encoder is not None:
            parts["speaker_encoder"] = self.speaker_encoder.digest()
        return parts

    @torch.inference_mode()
    def extract(
        self,
        mixture: torch.Tensor | np.ndarray,
        enrolment: torch.Tensor | np.ndarray | None = None,
        voiceprint: torch.Tensor | np.ndarray | None = None,
        visual: torch.Tensor | np.ndarray | None = None,
    ) -> torch.Tensor:
        """The talker's speech at the first microphone.

        Args:
            mixture: [C, T] or [B, C, T] at 16 kHz, floating point.
            enrolment: [T'] or [B, T'], speech of the talker, which the speaker encoder makes a voiceprint of.
            voiceprint: [D] or [B, D], in its place.
            visual: [V, visual_dim] or [B, V, visual_dim], 25 frames a second; None: zeros.

        Returns:
            [T] or [B, T] float32 on the CPU.

        Raises:
            ValueError: wrong types, shapes or numbers of channels, samples that are not finite, or a cue that is
                missing or not in use.
        """
        mixtures, is_batch = as_mixtures(mixture, self.network.channels)
        count, samples = len(mixtures), mixtures.shape[-1]
        voices = self._voiceprints(enrolment, voiceprint, count)
        faces = None
        if "visual" in self.network.cues:
            faces = as_faces(visual, count, samples, self.network.visual_dim)
        elif visual is not None:
            raise ValueError("a face was given, but visual is not among the recipe's cues")
        if samples <= self.windows.piece:
            made = self.level.adjust(self._compute(mixtures, voices, faces), mixtures[:, 0], ["the mixture"] * count)
        else:
            sources = [
                Source(
                    Recording.of(mixtures[i]),
                    None if voices is None else voices[i],
                    faces if faces is None else faces[i],
                )
                for i in range(count)
            ]
            made = torch.stack([torch.cat(list(parts)) for parts in self.stream(sources)])
        return made if is_batch else made[0]

    forward = extract

    def stream(self, sources: Sequence[Source]) -> list[Iterator[torch.Tensor]]:
        """Of each source the speech in parts, made when they are asked for; the memory does not grow with the length.

        Recordings of one window and of one length are computed together.
        """
        made: dict[int, Iterator[torch.Tensor]] = {}
        short: dict[int, list[int]] = {}
        for number, source in enumerate(sources):
            if source.mixture.samples <= self.windows.piece:
                short.setdefault(source.mixture.samples, []).append(number)
            else:
                made[number] = self._long(source)
        for samples, numbers in short.items():
            size = max(1, round(self.batch_seconds * self.sample_rate) // samples)
            for first in range(0, len(numbers), size):
                some = numbers[first : first + size]
                rows = self._rows([sources[i] for i in some], Window(0, samples))
                made |= {i: iter([wav]) for i, wav in zip(some, rows, strict=True)}
        return [made[number] for number in range(len(sources))]

    def voiceprint_of(self, enrolment: torch.Tensor) -> torch.Tensor:
        """Of speech [B, T'] at 16 kHz: [B, D] on the CPU.

        Raises:
            ValueError: the recipe has no speaker encoder.
        """
        if self.speaker_encoder is None:
            raise ValueError(
                "the enrolment is audio, and speaker_encoder=files takes voiceprints alone: set speaker_encoder and "
                "speaker_encoder_path, or give a voiceprint"
            )
        return self.speaker_encoder.embed(enrolment).cpu()

    # -- signals ---------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.network.decoder.weight.device

    def _voiceprints(self, enrolment, voiceprint, count: int) -> torch.Tensor | None:
        if "voiceprint" not in self.network.cues:
            if enrolment is not None or voiceprint is not None:
                raise ValueError("an enrolment was given, but voiceprint is not among the recipe's cues")
            return None
        if (enrolment is None) == (voiceprint is None):
            raise ValueError("give either an enrolment or its voiceprint")
        if voiceprint is None:
            wav = torch.as_tensor(enrolment)
            if not wav.is_floating_point() or wav.ndim not in (1, 2) or not wav.numel() or not wav.isfinite().all():
                raise ValueError(f"the enrolment must be [T] or [B, T], finite numbers, got {list(wav.shape)}")
            voiceprint = self.voiceprint_of(wav.float().reshape(-1, wav.shape[-1]))
        return as_voiceprints(voiceprint, count, self.network.voiceprint_dim)

    @torch.inference_mode()
    def _rows(self, sources: Sequence[Source], window: Window) -> torch.Tensor:
        """The speech of recordings of one window, [B, T] on the CPU."""
        mixtures = torch.stack([self._read(source, window) for source in sources])
        voices = None if sources[0].voiceprint is None else torch.stack([source.voiceprint for source in sources])
        faces = None if sources[0].visual is None else torch.stack([source.visual for source in sources])
        made = self._compute(mixtures, voices, faces)
        return self.level.adjust(made, mixtures[:, 0], [source.name for source in sources])

    def _long(self, source: Source) -> Iterator[torch.Tensor]:
        """The speech of a recording of several windows, in parts."""
        windows = self.windows.cut(source.mixture.samples)
        parts = self.windows.join(windows, self._by_windows(source, windows))
        if self.level.kind == "raw":
            yield from parts
            return
        # The gain follows from all of it: what is made waits on the disk.
        with tempfile.TemporaryFile() as file:
            begin, sums = 0, torch.zeros(4, dtype=torch.float64)
            for part in parts:
                heard = microphones(source.mixture.read(begin, len(part)), self.network.channels)[0]
                sums += Level.sums(heard, part)
                file.write(part.numpy().tobytes())
                begin += len(part)
            mean, gain = self.level.of(sums, begin, source.name)
            file.seek(0)
            while block := file.read(4 * self.windows.piece):
                yield gain * (torch.frombuffer(bytearray(block), dtype=torch.float32) - mean)

    def _by_windows(self, source: Source, windows: Sequence[Window]) -> Iterator[torch.Tensor]:
        size = max(1, round(self.batch_seconds * self.sample_rate) // self.windows.piece)
        for first in range(0, len(windows), size):
            some = windows[first : first + size]
            for same in [some] if some[0].length == some[-1].length else [some[:-1], some[-1:]]:
                if same:
                    yield from self._window_rows(source, same)

    @torch.inference_mode()
    def _window_rows(self, source: Source, windows: Sequence[Window]) -> torch.Tensor:
        mixtures = torch.stack([self._read(source, window) for window in windows])
        voices = None if source.voiceprint is None else source.voiceprint.expand(len(windows), -1)
        faces = None
        if source.visual is not None:
            count = -(-windows[0].length // FACE_HOP)
            starts = [window.start // FACE_HOP for window in windows]
            faces = torch.stack([source.visual[start : start + count] for start in starts])
        return self._compute(mixtures, voices, faces)

    def _read(self, source: Source, window: Window) -> torch.Tensor:
        """[C, length]."""
        wav = microphones(source.mixture.read(window.start, window.length), self.network.channels)
        if wav.shape[-1] != window.length:
            raise ValueError(f"the mixture ends after {window.start + wav.shape[-1]} samples, before it should")
        return wav

    def _compute(self, mixtures, voices, faces) -> torch.Tensor:
        moved = (x if x is None else x.to(self.device) for x in (mixtures, voices, faces))
        return self.network(*moved).float().cpu()


def _shown(origin: str) -> str:
    kind, _, digest = origin.partition(" ")
    return f"{kind} ({digest[:16]})" if digest else kind
