"""The contracts that systems meet in. Tokens are the common currency: int64 [B, N, K], values in [0, V)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch


class TokenFormat(Protocol):
    """What a producer and a consumer of tokens must agree on."""

    sample_rate: int  # Hz
    hop_length: int  # samples a frame
    num_codebooks: int  # K
    vocab_size: int  # V


@runtime_checkable
class Tokenizer(TokenFormat, Protocol):
    codebook_names: tuple[str, ...]  # K of them

    def encode(self, wav: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """wav [B, T], lengths [B] in samples -> tokens [B, N, K]."""
        ...


@runtime_checkable
class Vocoder(TokenFormat, Protocol):
    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens [B, N, K] -> wav [B, N * hop_length]."""
        ...

    def parts(self, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
        """The same in parts that follow each other in time, each made when it is asked for."""
        ...


@runtime_checkable
class TargetExtractor(Protocol):
    sample_rate: int

    def extract(self, mixture: torch.Tensor | np.ndarray, enrolment: torch.Tensor | np.ndarray) -> torch.Tensor:
        """mixture [T] or [B, T], enrolment [T'] or [B, T'] -> the enrolled talker's speech, as long as the mixture."""
        ...


@dataclass(frozen=True)
class Extraction:
    """Speech with the tokens that it was made of.

    Attributes:
        wav: [T] or [B, T] float32, on the CPU.
        tokens: [N, K] or [B, N, K] int64, on the CPU.
    """

    wav: torch.Tensor
    tokens: torch.Tensor


@dataclass(frozen=True)
class Source:
    """A mixture that is read as it is needed, and the talker to extract from it.

    Attributes:
        read: ``read(start, length)`` gives samples ``start`` to ``start + length`` of the mixture, [at most length].
        samples: of the mixture.
        enrolment: [R].
    """

    read: Callable[[int, int], torch.Tensor | np.ndarray]
    samples: int
    enrolment: torch.Tensor | np.ndarray


@runtime_checkable
class TokenExtractor(TargetExtractor, Protocol):
    """An extractor that works through tokens, and so can be measured by them."""

    tokenizer: Tokenizer
    vocoder: Vocoder

    def extract_with_tokens(
        self, mixture: torch.Tensor | np.ndarray, enrolment: torch.Tensor | np.ndarray
    ) -> Extraction:
        """As ``extract``, with the predicted tokens."""
        ...

    def stream(self, sources: Sequence[Source]) -> list[tuple[torch.Tensor, Iterator[torch.Tensor]]]:
        """Of each source the tokens [N, K], and the speech in parts."""
        ...

    def encode(self, wav: torch.Tensor | np.ndarray) -> torch.Tensor:
        """The tokens of any speech, [N, K], cut as a mixture is; of the target, those that should be predicted."""
        ...

    def resynthesise(self, target: torch.Tensor | np.ndarray) -> Extraction:
        """What it would give if it made no error: the target's own tokens, and their sound."""
        ...


def require_same_format(producer: TokenFormat, consumer: TokenFormat) -> None:
    """Raise a ValueError that names both sides if the tokens of one cannot be read by the other."""
    names = ("sample_rate", "hop_length", "num_codebooks", "vocab_size")
    differing = [n for n in names if getattr(producer, n) != getattr(consumer, n)]
    if differing:
        facts = ", ".join(f"{n} {getattr(producer, n)} against {getattr(consumer, n)}" for n in differing)
        raise ValueError(f"{type(producer).__name__} and {type(consumer).__name__} do not fit together: {facts}")
