"""Extraction: a mixture and an enrolment of any length in, the enrolled talker's speech out, sample for sample."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from models.interfaces import Extraction, Presence, Source, Vocoder, require_same_format
from models.tselm import released
from models.tselm.chunking import PublishedCutting, require_chunking
from models.tselm.front_end import FrontEnd, require_network_fits
from models.tselm.network import TSELM
from models.tselm.presence import Gate, PresenceHead, require_same_heads, require_threshold
from models.tselm.signals import Signal, as_batch, as_row, signals
from modules.cutting import Cutting, Piece, batches
from modules.frozen import tensor_digest
from utils import checkpoint
from utils.ahead import ahead
from utils.halves import in_halves
from utils.precision import autocast, require_known


class Extractor(nn.Module):
    """Extracts the enrolled talker from mixtures, in pieces.

    ``chunking="aligned"``: the mixture is cut by frames into windows that overlap, see ``modules.cutting``, and the
    tokens of the whole file are decoded as one. Sample i of the output belongs to sample i of the mixture, and the
    output is exactly as long. ``chunking="published"``: as ``models.tselm.chunking`` says.

    Only the first ``regi_length`` samples of the enrolment are used. A shorter enrolment is used whole (``aligned``) or
    zero-padded (``published``).

    With a ``presence`` head, each piece has a score in [0, 1], and one below ``presence_threshold`` becomes silence.
    The score of a file is the highest of its pieces, since a talker may talk in a part of it alone. Pieces that are
    kept are as without the head.

    Args:
        network, front_end, vocoder: the parts.
        chunking: ``aligned`` or ``published``.
        mix_length: samples of a piece with ``published`` chunking.
        regi_length: samples of the enrolment that are used.
        piece_seconds, context_seconds: with ``aligned`` chunking. A longer piece is quicker. A window of the default's
            9 s costs no quality, though the network was trained on 3 s; one of 25 s does (docs/performance.md).
        batch_seconds: how much of one mixture, or of several, is computed at a time, but at least one piece; bounds
            the memory, whatever the length of a mixture.
        precision: of the network and the vocoder; that of the tokenizer is its own.
        presence: the head that tells whether the talker is there; None for a system that was trained without.
        presence_threshold: a piece with a lower score is silenced; 0 silences none.

    Raises:
        ValueError: the parts do not fit together, or a window is longer than the network's position table.
    """

    def __init__(
        self,
        *,
        network: TSELM,
        front_end: FrontEnd,
        vocoder: Vocoder,
        chunking: str = "aligned",
        mix_length: int = 48080,
        regi_length: int = 64080,
        piece_seconds: float = 8.0,
        context_seconds: float = 0.5,
        batch_seconds: float = 24.0,
        precision: str = "fp32",
        presence: PresenceHead | None = None,
        presence_threshold: float = 0.5,
    ):
        super().__init__()
        tokenizer = front_end.tokenizer
        require_same_format(tokenizer, vocoder)
        require_network_fits(network, front_end)
        spans = (batch_seconds, piece_seconds, context_seconds)
        if not all(map(math.isfinite, spans)) or min(spans) < 0 or piece_seconds == 0:
            raise ValueError(
                "piece_seconds must be above 0, context_seconds and batch_seconds not below, and all finite, "
                f"got {piece_seconds}, {context_seconds} and {batch_seconds}"
            )
        if min(mix_length, regi_length) < 1:
            raise ValueError(f"mix_length and regi_length must be above 0 samples, got {mix_length} and {regi_length}")
        require_chunking(chunking)
        require_known(precision)
        require_threshold(presence_threshold)
        self.precision = precision
        self.presence = presence
        self.presence_threshold = presence_threshold
        self.tells_presence = presence is not None
        self.network = network
        self.tokenizer = tokenizer
        self.vocoder = vocoder
        self.front_end = front_end
        self.grid = front_end.grid
        self.sample_rate: int = tokenizer.sample_rate
        self.regi_length = regi_length
        self.batch_seconds = batch_seconds
        self.batch_samples = round(batch_seconds * self.sample_rate)
        frame_rate = self.sample_rate / self.grid.hop
        self.mix_length = mix_length
        self.is_published = chunking == "published"
        piece, context = max(1, round(piece_seconds * frame_rate)), round(context_seconds * frame_rate)
        windows = Cutting(grid=self.grid, piece=piece, context=context)
        self.cutting = PublishedCutting(grid=self.grid, mix_length=mix_length) if self.is_published else windows
        if windows.window > network.max_frames:
            raise ValueError(
                f"a window of {piece_seconds} + 2 * {context_seconds} s has {windows.window} frames, "
                f"but the network's position table ends at {network.max_frames}"
            )
        self.eval()

    def load_checkpoint(self, path: str | os.PathLike) -> None:
        """Load trained weights: a checkpoint of ours, or a released one.

        Frozen weights that a released checkpoint carries are compared with those that the recipe named. Ours carries
        their digest and the settings of its training.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is broken, holds code, or fits neither the network nor the frozen parts.
        """
        content = checkpoint.load(path, stand_ins=released.STAND_INS)
        if content.get("format") == checkpoint.FORMAT:
            frozen = {"tokenizer": self.tokenizer.digest()} if "frozen" in content else {}
            checkpoint.require_same(content, frozen=frozen, settings=self.front_end.settings(), source=path)
            tensors = content["model"]
        else:
            found = released.parse_checkpoint(content, path)
            if found.wavlm:
                released.compare_frozen(found.wavlm, self.tokenizer.encoder.model.state_dict(), "WavLM", path)
            if found.vocoder:
                released.compare_frozen(found.vocoder, self.vocoder.generator.state_dict(), "vocoder", path)
            tensors = checkpoint.flatten({"network": found.network})
            if self.network.mix_continuous:  # a released file holds the table that this mode does not use
                tensors.pop("network.mixture_embedding.table.weight", None)
        require_same_heads(tensors, self.presence, path)
        checkpoint.load_tensors(self._trained(), tensors, path)

    def _trained(self) -> dict[str, nn.Module]:
        return {"network": self.network} | ({"presence": self.presence} if self.tells_presence else {})

    def digests(self) -> dict[str, str]:
        """SHA-256 of the weights of each part."""
        parts = {name: tensor_digest(part.state_dict()) for name, part in self._trained().items()}
        return parts | {"tokenizer": self.tokenizer.digest(), "vocoder": self.vocoder.digest()}

    def extract(self, mixture: torch.Tensor | np.ndarray, enrolment: torch.Tensor | np.ndarray) -> torch.Tensor:
        """The enrolled talker's speech.

        Where the mixture is digital silence throughout, so is the output (with ``aligned`` chunking). With a presence
        head it is zeros where the talker is not.

        Args:
            mixture: [T], or [B, T], at ``sample_rate``, floating point.
            enrolment: [R], or [B, R], the talker to follow, one row for each mixture.

        Returns:
            [T] or [B, T] float32 on the CPU; up to 80 samples a piece shorter with ``published`` chunking.

        Raises:
            ValueError: wrong type or shape, samples that are not finite, an empty mixture, or an enrolment that is
                silent or shorter than one frame.
        """
        return self.extract_with_tokens(mixture, enrolment).wav

    def extract_with_tokens(
        self, mixture: torch.Tensor | np.ndarray, enrolment: torch.Tensor | np.ndarray
    ) -> Extraction:
        """As ``extract``, with the tokens that the network predicted, [N, K] or [B, N, K], and the presence."""
        mixtures, is_batch = as_batch(mixture, "mixture")
        enrolments, _ = as_batch(enrolment, "enrolment")
        if len(mixtures) != len(enrolments):
            raise ValueError(f"{len(mixtures)} mixtures need as many enrolments, got {len(enrolments)}")
        return _joined(self._extract(signals(mixtures), enrolments), is_batch)

    forward = extract

    def stream(self, sources: Sequence[Source]) -> list[tuple[torch.Tensor, Iterator[torch.Tensor]]]:
        """Extract from mixtures of any length without ever holding them, or the results, as a whole.

        Short mixtures are computed together. The numbers are those of ``extract`` but for rounding, which the company
        that a mixture is in can change.

        Returns:
            Of each source the predicted tokens [N, K], and the speech in parts, which are decoded when asked for.
        """
        made = self._stream(sources)
        return [(one.tokens.cpu(), (part.float().cpu() for part in one.parts)) for one in made]

    def stream_with_presence(
        self, sources: Sequence[Source]
    ) -> list[tuple[torch.Tensor, Iterator[torch.Tensor], Presence]]:
        """As ``stream``, and whether the talker is there; for an extractor that ``tells_presence``."""
        made = self._stream(sources)
        return [(one.tokens.cpu(), (part.float().cpu() for part in one.parts), one.presence) for one in made]

    def _stream(self, sources: Sequence[Source]) -> list[_Made]:
        def signal(source: Source) -> Signal:
            return Signal(lambda start, length: as_row(source.read(start, length), "mixture"), source.samples)

        enrolments = [as_row(source.enrolment, "enrolment") for source in sources]
        return self._extract([signal(source) for source in sources], enrolments)

    @torch.inference_mode()
    def encode(self, wav: torch.Tensor | np.ndarray) -> torch.Tensor:
        """The tokens of any speech, cut as ``chunking`` cuts a mixture; of the target, what the network should predict.

        Args:
            wav: [T], or [B, T], at ``sample_rate``, floating point.

        Returns:
            [N, K] or [B, N, K] on the CPU, as ``extract_with_tokens`` for a mixture of this length.
        """
        wavs, is_batch = as_batch(wav, "signal")
        tokens = torch.stack(self._encode(signals(wavs))).cpu()
        return tokens if is_batch else tokens[0]

    def resynthesise(self, target: torch.Tensor | np.ndarray) -> Extraction:
        """What a network without error would give: the target's own tokens, and their sound.

        Args:
            target: [T] or [B, T], the clean speech.

        Returns:
            As ``extract_with_tokens`` for a mixture of this length.
        """
        targets, is_batch = as_batch(target, "target")
        heard = signals(targets)
        made = [_Made(t, self._decode(t, s)) for t, s in zip(self._encode(heard), heard, strict=True)]
        return _joined(made, is_batch)

    @property
    def device(self) -> torch.device:
        return self.network.head.weight.device

    @torch.inference_mode()
    def _extract(self, mixtures: Sequence[Signal], enrolments: Sequence[torch.Tensor]) -> list[_Made]:
        """What comes of each mixture, on the device."""
        used = [self._used(enrolment) for enrolment in enrolments]
        whole = [len(enrolment) // self.grid.hop * self.grid.hop for enrolment in used]
        if self.is_published:
            whole = [self.regi_length] * len(used)  # else the mixture starts where a frame starts
        cut = [Piece(number, 0, len(enrolment), slice(None)) for number, enrolment in enumerate(used)]
        scores: list[list[float]] = [[] for _ in mixtures]  # of the pieces of each, in order

        def predict(pieces: torch.Tensor, batch: list[Piece]) -> torch.Tensor:
            around = torch.stack([used[piece.signal][: whole[piece.signal]] for piece in batch])
            encoded = self.front_end.encode_mixture(pieces, around.to(self.device))
            memory = torch.stack([followed[piece.signal] for piece in batch])
            if self.presence is None:
                return self.network(encoded, memory).argmax(dim=-1)
            sequence = self.network.sequence(encoded, memory)
            tokens = self.network.logits(sequence).argmax(dim=-1)
            for piece, score in zip(batch, self.presence(sequence).sigmoid().tolist(), strict=True):
                scores[piece.signal].append(score)
            return tokens

        with autocast(self.device, self.precision):
            followed = self._by_pieces(cut, signals(used), lambda wavs, _: self.front_end.encode(wavs))
            cut = self._cut(mixtures)
            tokens = self._by_pieces(cut, mixtures, predict, alike=lambda piece: len(used[piece.signal]))
        if self.presence is None:
            return [_Made(t, self._decode(t, mixture)) for t, mixture in zip(tokens, mixtures, strict=True)]
        return [self._gated(*of_one) for of_one in zip(tokens, mixtures, scores, strict=True)]

    def _gated(self, tokens: torch.Tensor, mixture: Signal, scores: Sequence[float]) -> _Made:
        """What comes of a mixture whose pieces have these scores."""
        if mixture.is_silent:  # nobody is in it
            scores = [0.0] * len(scores)
        frames = [piece.kept.stop - piece.kept.start for piece in self.cutting.cut(mixture.samples)]
        gate = Gate(frames, [score >= self.presence_threshold for score in scores], hop=self.grid.hop)
        samples = min(mixture.samples, len(tokens) * self.grid.hop)
        parts = gate.silenced(self._decode(tokens, mixture), samples=samples, at_a_time=self.batch_samples)
        ends = gate.ends(samples, self.sample_rate)
        return _Made(tokens, parts, Presence(max(scores), tuple(scores), ends))

    def _used(self, enrolment: torch.Tensor) -> torch.Tensor:
        """What is heard of an enrolment, [R]."""
        used = enrolment[: self.regi_length]
        if len(used) < self.grid.window:
            raise ValueError(f"the enrolment needs at least {self.grid.window} samples, got {len(used)}")
        if bool((used == used[0]).all()):
            what = "constant" if used[0] else "silent"
            raise ValueError(f"the enrolment is {what} in the part that is used: there is nobody to follow")
        return F.pad(used, (0, self.regi_length - len(used) if self.is_published else 0))

    @torch.inference_mode()
    def _encode(self, heard: Sequence[Signal]) -> list[torch.Tensor]:
        return self._by_pieces(self._cut(heard), heard, lambda wavs, _: self.tokenizer.encode(wavs))

    def _cut(self, heard: Sequence[Signal]) -> list[Piece]:
        return [piece for number, signal in enumerate(heard) for piece in self.cutting.cut(signal.samples, number)]

    def _by_pieces(
        self,
        cut: Sequence[Piece],
        heard: Sequence[Signal],
        tokens_of: Callable[[torch.Tensor, list[Piece]], torch.Tensor],
        *,
        alike: Callable[[Piece], Hashable] = lambda piece: None,
    ) -> list[torch.Tensor]:
        """Tokens [N, K] of each signal: what is kept of its pieces, which are read and computed a batch at a time."""

        def read() -> Iterator[tuple[torch.Tensor, list[Piece]]]:
            for batch in batches(cut, samples=self.batch_samples, alike=alike):
                yield torch.stack([heard[piece.signal].read(piece) for piece in batch]), batch

        found: list[list[torch.Tensor]] = [[] for _ in heard]
        for wavs, batch in ahead(read()):

            def compute(part: slice, wavs=wavs, batch=batch) -> torch.Tensor:
                return tokens_of(wavs[part].to(self.device), batch[part])

            rows = (row for tokens in in_halves(compute, len(batch)) for row in tokens)
            for piece, tokens in zip(batch, rows, strict=True):
                found[piece.signal].append(tokens[piece.kept])
        return [torch.cat(kept) for kept in found]

    def _decode(self, tokens: torch.Tensor, signal: Signal) -> Iterator[torch.Tensor]:
        """[N, K] to parts of [at most T]: decoded as one, or in the pieces of the published cut."""
        if isinstance(self.cutting, PublishedCutting):
            together = self.cutting.frames
            size = max(1, self.batch_samples // (together * self.grid.hop))
            parts = (self.vocoder.decode(rows).flatten() for rows in tokens.unflatten(0, (-1, together)).split(size))
        else:
            parts = (part[0] for part in self.vocoder.parts(tokens[None]))
        left, is_silent = signal.samples, signal.is_silent and not self.is_published
        while True:
            with torch.inference_mode(), autocast(self.device, self.precision):  # not where others go on
                wav = next(parts, None)
            if wav is None:
                break
            yield (torch.zeros_like(wav) if is_silent else wav)[:left]
            left -= len(wav)


@dataclass(frozen=True)
class _Made:
    """What comes of a mixture: tokens [N, K] on the device, the speech in parts, and whether the talker is there."""

    tokens: torch.Tensor
    parts: Iterator[torch.Tensor]
    presence: Presence | None = None


def _joined(made: Sequence[_Made], is_batch: bool) -> Extraction:
    wav = torch.stack([torch.cat([part.float().cpu() for part in one.parts]) for one in made])
    tokens = torch.stack([one.tokens.cpu() for one in made])
    presence = [one.presence for one in made]
    return Extraction(wav, tokens, presence) if is_batch else Extraction(wav[0], tokens[0], presence[0])
