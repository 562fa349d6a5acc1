"""Extraction: a mixture and an enrolment of any length in, the enrolled talker's speech out, sample for sample."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from models import released
from models.interfaces import Extraction, Vocoder, require_same_format
from models.tselm.cutting import Cutting
from models.tselm.front_end import FrontEnd, require_network_fits
from models.tselm.network import TSELM
from utils import checkpoint
from utils.precision import autocast, require_known

Segment = Callable[[int, int], torch.Tensor]  # start and length in samples -> [B, at most length]


class Extractor(nn.Module):
    """Extracts the enrolled talker from mixtures, in pieces that ``models.tselm.cutting`` cuts.

    Only the first ``regi_length`` samples of the enrolment are used. A shorter enrolment is used whole (``aligned``) or
    zero-padded (``published``).

    Args:
        network, front_end, vocoder: the parts.
        chunking: ``aligned`` or ``published``.
        mix_length: samples of a piece with ``published`` chunking.
        regi_length: samples of the enrolment that are used.
        piece_seconds, context_seconds: with ``aligned`` chunking. By default a window is 3 s, the length that the
            network is trained on.
        batch_pieces: pieces of a file that are computed at a time; bounds the memory, whatever the file's length.
        precision: of the network and the vocoder; that of the tokenizer is its own.

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
        piece_seconds: float = 2.0,
        context_seconds: float = 0.5,
        batch_pieces: int = 8,
        precision: str = "fp32",
    ):
        super().__init__()
        tokenizer = front_end.tokenizer
        require_same_format(tokenizer, vocoder)
        require_network_fits(network, front_end)
        if batch_pieces < 1 or piece_seconds <= 0 or context_seconds < 0:
            raise ValueError(
                "batch_pieces and piece_seconds must be above 0, and context_seconds not below, "
                f"got {batch_pieces}, {piece_seconds} and {context_seconds}"
            )
        require_known(precision)
        self.precision = precision
        self.network = network
        self.tokenizer = tokenizer
        self.vocoder = vocoder
        self.front_end = front_end
        self.grid = front_end.grid
        self.sample_rate: int = tokenizer.sample_rate
        self.regi_length = regi_length
        self.batch_pieces = batch_pieces
        frame_rate = self.sample_rate / self.grid.hop
        self.cutting = Cutting(
            grid=self.grid,
            chunking=chunking,
            mix_length=mix_length,
            piece=max(1, round(piece_seconds * frame_rate)),
            context=round(context_seconds * frame_rate),
        )
        if self.cutting.window > network.max_frames:
            raise ValueError(
                f"a window of {piece_seconds} + 2 * {context_seconds} s has {self.cutting.window} frames, "
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
        checkpoint.load_tensors({"network": self.network}, tensors, path)

    def extract(self, mixture: torch.Tensor | np.ndarray, enrolment: torch.Tensor | np.ndarray) -> torch.Tensor:
        """The enrolled talker's speech.

        Where the mixture is digital silence throughout, so is the output (with ``aligned`` chunking).

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
        """As ``extract``, with the tokens that the network predicted, [N, K] or [B, N, K]."""
        mixtures, is_batch = _as_batch(mixture, "mixture")
        enrolments, _ = _as_batch(enrolment, "enrolment")
        if len(mixtures) != len(enrolments):
            raise ValueError(f"{len(mixtures)} mixtures need as many enrolments, got {len(enrolments)}")
        tokens, parts = self._extract(_segments_of(mixtures), mixtures.shape[-1], enrolments)
        return _extraction(tokens, parts, is_batch)

    forward = extract

    def stream(
        self, read: Callable[[int, int], torch.Tensor | np.ndarray], samples: int, enrolment: torch.Tensor | np.ndarray
    ) -> tuple[torch.Tensor, Iterator[torch.Tensor]]:
        """Extract from a mixture of any length without ever holding it, or the result, as a whole.

        Args:
            read: gives samples ``start`` to ``start + length`` of the mixture, [length].
            samples: of the mixture.
            enrolment: [R].

        Returns:
            The predicted tokens [N, K], and the speech in parts, which are decoded as they are asked for. The same
            numbers as ``extract`` of the whole.
        """
        enrolments, _ = _as_batch(enrolment, "enrolment")

        def segment(start: int, length: int) -> torch.Tensor:
            return _as_batch(read(start, length), "mixture")[0]

        tokens, parts = self._extract(segment, samples, enrolments)
        return tokens[0].cpu(), (part[0].float().cpu() for part in parts)

    @torch.inference_mode()
    def encode(self, wav: torch.Tensor | np.ndarray) -> torch.Tensor:
        """The tokens of any speech, cut as ``chunking`` cuts a mixture; of the target, what the network should predict.

        Args:
            wav: [T], or [B, T], at ``sample_rate``, floating point.

        Returns:
            [N, K] or [B, N, K] on the CPU, as ``extract_with_tokens`` for a mixture of this length.
        """
        wavs, is_batch = _as_batch(wav, "signal")
        tokens = self._encode(wavs).cpu()
        return tokens if is_batch else tokens[0]

    def resynthesise(self, target: torch.Tensor | np.ndarray) -> Extraction:
        """What a network without error would give: the target's own tokens, and their sound.

        Args:
            target: [T] or [B, T], the clean speech.

        Returns:
            As ``extract_with_tokens`` for a mixture of this length.
        """
        targets, is_batch = _as_batch(target, "target")
        tokens = self._encode(targets)
        return _extraction(tokens, self._decode(tokens, targets.shape[-1]), is_batch)

    @property
    def device(self) -> torch.device:
        return self.network.head.weight.device

    @torch.inference_mode()
    def _extract(
        self, segment: Segment, samples: int, enrolments: torch.Tensor
    ) -> tuple[torch.Tensor, Iterator[torch.Tensor]]:
        """Tokens [B, N, K], and the speech [B, T] in parts, of mixtures that ``segment`` reads."""
        used = enrolments[:, : self.regi_length]
        if used.shape[-1] < self.grid.window:
            raise ValueError(f"the enrolment needs at least {self.grid.window} samples, got {used.shape[-1]}")
        if not bool(used.any(dim=-1).all()):
            raise ValueError("the enrolment is silent in the part that is used: there is nobody to follow")
        used = used.to(self.device)
        if self.cutting.is_published:
            around = used = F.pad(used, (0, self.regi_length - used.shape[-1]))
        else:  # a multiple of the hop before the mixture, so that it starts where a frame starts
            around = used[:, : used.shape[-1] // self.grid.hop * self.grid.hop]
        with autocast(self.device, self.precision):
            enrolment_tokens = self.front_end.encode(used)

            def predict(pieces: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
                encoded = self.front_end.encode_mixture(pieces, around[rows])
                return self.network(encoded, enrolment_tokens[rows]).argmax(dim=-1)

            tokens, is_silent = self._piece_by_piece(segment, samples, len(used), predict)
        parts = self._decode(tokens, samples)
        if not self.cutting.is_published:
            return tokens, (part * ~is_silent[:, None] for part in parts)
        return tokens, parts

    @torch.inference_mode()
    def _encode(self, wavs: torch.Tensor) -> torch.Tensor:
        def tokenise(pieces: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return self.tokenizer.encode(pieces)

        return self._piece_by_piece(_segments_of(wavs), wavs.shape[-1], len(wavs), tokenise)[0]

    def _piece_by_piece(
        self,
        segment: Segment,
        samples: int,
        batch: int,
        tokens_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read pieces, ``batch_pieces`` at a time, and join what ``tokens_of`` them, and of their rows, keeps.

        Returns:
            [B, N, K], and [B], True where all that was read is zero.
        """
        cut = self.cutting.cut(samples)
        is_silent = torch.ones(batch, dtype=torch.bool, device=self.device)
        found = []
        step = max(1, self.batch_pieces // batch)
        for first in range(0, len(cut.starts), step):
            group = [segment(start, cut.length) for start in cut.starts[first : first + step]]
            group = [F.pad(part, (0, cut.length - part.shape[-1])) for part in group]
            pieces = torch.stack(group, dim=1).to(self.device)  # [B, P, T]
            is_silent &= ~pieces.any(dim=-1).any(dim=-1)
            rows = torch.arange(batch, device=self.device).repeat_interleave(len(group))
            split = zip(pieces.flatten(0, 1).split(self.batch_pieces), rows.split(self.batch_pieces), strict=True)
            tokens = torch.cat([tokens_of(*part) for part in split]).unflatten(0, (batch, len(group)))
            found += [tokens[:, i, begin:end] for i, (begin, end) in enumerate(cut.kept[first : first + step])]
        return torch.cat(found, dim=1), is_silent

    def _decode(self, tokens: torch.Tensor, samples: int) -> Iterator[torch.Tensor]:
        """[B, N, K] to parts of [B, at most ``samples``]: as one, or in the pieces of the published cut."""
        done = 0
        for together in tokens.split(self.cutting.decoded_together(tokens.shape[1]), dim=1):
            parts = self.vocoder.parts(together)
            while True:
                with torch.inference_mode(), autocast(self.device, self.precision):  # not where others go on
                    wav = next(parts, None)
                if wav is None:
                    break
                yield wav[:, : samples - done]
                done += wav.shape[-1]


def _segments_of(wavs: torch.Tensor) -> Segment:
    return lambda start, length: wavs[:, start : start + length]


def _extraction(tokens: torch.Tensor, parts: Iterator[torch.Tensor], is_batch: bool) -> Extraction:
    wav, tokens = torch.cat([part.float().cpu() for part in parts], dim=-1), tokens.cpu()
    return Extraction(wav, tokens) if is_batch else Extraction(wav[0], tokens[0])


def _as_batch(wav: torch.Tensor | np.ndarray, name: str) -> tuple[torch.Tensor, bool]:
    """[T] or [B, T] as a float32 batch, and whether it was one."""
    wav = torch.as_tensor(wav)
    if not wav.is_floating_point():
        raise ValueError(f"the {name} must be floating point in [-1, 1], got {wav.dtype}")
    if wav.ndim not in (1, 2):
        raise ValueError(f"the {name} must be [T] or [B, T], got {list(wav.shape)}")
    if wav.numel() == 0:
        raise ValueError(f"the {name} holds no samples")
    if not bool(wav.isfinite().all()):
        raise ValueError(f"the {name} holds samples that are not finite (NaN or infinite)")
    return wav.float().reshape(-1, wav.shape[-1]), wav.ndim == 2
