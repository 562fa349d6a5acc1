"""A codec as the two ends of a system that works on tokens: the tokenizer that it trains on, and the vocoder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F

from models.interfaces import Recording, TokenFormat
from modules.frames import FrameGrid
from modules.frozen import Frozen
from modules.kmeans import NearestCentroid, full_precision, nearest
from utils.files import text_digest


class ResidualCodec(TokenFormat, Protocol):
    """A codec with residual codebooks, such as ``models.speechtokenizer.codec.SpeechTokenizer``."""

    codebook_names: tuple[str, ...]
    precision: str
    codebooks: torch.Tensor  # [n_q, V, D], of which the first ``num_codebooks`` are used

    def load_checkpoint(self, path: str | os.PathLike) -> None: ...

    def encode(self, wav: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor: ...

    def encode_files(self, recordings: Sequence[Recording]) -> list[torch.Tensor]: ...

    def encode_latents(self, wav: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor: ...

    def decode(self, tokens: torch.Tensor) -> torch.Tensor: ...

    def parts(self, tokens: torch.Tensor) -> Iterator[torch.Tensor]: ...

    def digests(self) -> dict[str, str]: ...


def load_codec(*, codec: ResidualCodec, path: str | os.PathLike) -> ResidualCodec:
    """The codec with the weights of a file, as a frozen part of another system.

    Raises:
        FileNotFoundError, ValueError: the file is missing, or does not fit.
    """
    codec.load_checkpoint(path)
    codec.checkpoint = "refused"  # it has its weights: a run's checkpoint is of another part
    return codec


class _CodecPart(Frozen):
    parts_used: tuple[str, ...]

    def __init__(self, *, codec: ResidualCodec):
        super().__init__()
        self.codec = codec
        self.sample_rate = codec.sample_rate
        self.hop_length = codec.hop_length
        self.num_codebooks = codec.num_codebooks
        self.vocab_size = codec.vocab_size

    def digest(self) -> str:
        """SHA-256 of what this end of the codec follows from: training the other end changes nothing here."""
        found = self.codec.digests()
        return text_digest(f"{self.num_codebooks} {' '.join(found[name] for name in self.parts_used)}")


class CodecTokenizer(_CodecPart):
    """Speech to a codec's tokens, and to what each codebook quantises: latents, and what those before it leave.

    Args:
        codec: with its weights; the first ``num_codebooks`` of its codebooks are used.
    """

    parts_used = ("tokenizer",)

    def __init__(self, *, codec: ResidualCodec):
        super().__init__(codec=codec)
        self.quantizer = NearestCentroid(list(codec.codebooks[: codec.num_codebooks]))
        # A frame is made of all that is around it; on this grid they lie side by side.
        self.grid = FrameGrid(window=codec.hop_length, hop=codec.hop_length)
        self.codebook_names = codec.codebook_names
        self.dim: int = self.quantizer.dim
        self.precision = codec.precision
        self.freeze()

    @torch.no_grad()
    def features(
        self,
        wav: torch.Tensor,
        lengths: torch.Tensor | None = None,
        *,
        kept: slice = slice(None),
        repeats_from: int | None = None,
    ) -> list[torch.Tensor]:
        """wav [B, T] -> of each codebook what it quantises, [B, N, D] float32, of the frames in ``kept``.

        That the sound repeats itself from a sample on spares nothing here.
        """
        left, found = self.codec.encode_latents(wav, lengths)[:, kept], []
        for rows in self.quantizer.centroids:
            found.append(left)
            with full_precision(left.device):
                left = left - F.embedding(nearest(left, rows), rows)
        return found

    def encode(self, wav: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens [B, N, K] of a batch, see the codec's."""
        return self.codec.encode(wav, lengths)

    forward = encode

    def encode_files(self, recordings: Sequence[Recording]) -> list[torch.Tensor]:
        """Tokens [N, K] of whole files, see the codec's."""
        return self.codec.encode_files(recordings)


class CodecVocoder(_CodecPart):
    """A codec's tokens to speech.

    Args:
        codec: with its weights; tokens are of the first ``num_codebooks`` of its codebooks.
    """

    parts_used = ("codebook_rows", "decoder")

    def __init__(self, *, codec: ResidualCodec):
        super().__init__(codec=codec)
        self.freeze()

    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [B, N, K] -> wav [B, N * hop]."""
        return self.codec.decode(tokens)

    forward = decode

    def parts(self, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
        """The same in parts that follow each other in time."""
        return self.codec.parts(tokens)
