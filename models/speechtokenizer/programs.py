"""What can be run of the codec: speech to tokens, tokens of a range of codebooks to speech, and both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from models.interfaces import TOKENS_RECORD, Item, Role
from models.programs import SystemProgram, require_same_tokens, token_facts
from models.speechtokenizer.codec import SpeechTokenizer


class CodecProgram(SystemProgram):
    """What the codec's programs have in common.

    Args:
        codec: with ``codebooks``, where a range of them ends.
        first_codebook: where it begins.
        batch_seconds: of short files that are computed together.

    Raises:
        ValueError: the range is empty, or begins at no codebook.
    """

    follows_from = ("tokenizer", "codebook_rows", "decoder")  # which parts of the codec the results follow from

    def __init__(self, *, codec: SpeechTokenizer, first_codebook: int = 0, batch_seconds: float = 24.0):
        super().__init__({"codec": codec}, batch_seconds=batch_seconds)
        if not 0 <= first_codebook < codec.num_codebooks:
            raise ValueError(
                f"first_codebook must be 0 to {codec.num_codebooks - 1}, since the range ends before codebook "
                f"{codec.num_codebooks} (codebooks); got {first_codebook}"
            )
        self.codec = codec
        self.first_codebook = first_codebook
        self.sound = Role("audio", ".wav", sample_rate=codec.sample_rate)
        self.tokens = Role("tokens", ".npy", sample_rate=codec.sample_rate / codec.hop_length)

    def digests(self) -> Mapping[str, str]:
        found = self.codec.digests()
        return {name: found[name] for name in self.follows_from}

    def facts(self) -> Mapping[str, Any]:
        return {**token_facts(self.codec), "first_codebook": self.first_codebook}

    def speech(self, tokens: Sequence[torch.Tensor], samples: Sequence[int]) -> list[Iterator[torch.Tensor]]:
        """Of tokens [N, k] of this range so many samples of each, in parts."""
        signals = self.codec.signals_of(tokens, self.first_codebook)
        return [_cut(parts, length) for parts, length in zip(signals, samples, strict=True)]


class Tokenize(CodecProgram):
    """Speech -> tokens of all codebooks before ``codebooks``, from the first on."""

    follows_from = ("tokenizer", "codebook_rows")
    record = TOKENS_RECORD

    def __init__(self, *, codec: SpeechTokenizer, batch_seconds: float = 24.0):
        super().__init__(codec=codec, batch_seconds=batch_seconds)
        self.inputs = {"audio": self.sound}
        self.results = {"tokens": self.tokens}

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        return [{"tokens": tokens} for tokens in self.codec.encode_files([item["audio"] for item in items])]


class Decode(CodecProgram):
    """Tokens -> speech, hop samples of each frame. Their first column is of ``first_codebook``."""

    follows_from = ("codebook_rows", "decoder")
    shares_folder = True

    def __init__(self, *, codec: SpeechTokenizer, first_codebook: int = 0, batch_seconds: float = 24.0):
        super().__init__(codec=codec, first_codebook=first_codebook, batch_seconds=batch_seconds)
        self.inputs = {"tokens": self.tokens}
        self.results = {"audio": self.sound}

    def check_record(self, record: Mapping[str, Any]) -> None:
        require_same_tokens(record, self.codec)
        rows, own = record.get("codebook_rows"), self.codec.digests()["codebook_rows"]
        if rows is None and "tokenizer" in record:
            raise ValueError("the tokens are not of a codec of this kind, but of another tokenizer")
        if rows not in (None, own):
            raise ValueError(
                f"the tokens are of other codebooks ({rows[:12]}...) than this codec's ({own[:12]}...): decode them "
                "with the checkpoint that made them"
            )

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        tokens = [self._of_range(item["tokens"]) for item in items]
        signals = self.speech(tokens, [len(x) * self.codec.hop_length for x in tokens])
        return [{"audio": signal} for signal in signals]

    def _of_range(self, array: np.ndarray) -> torch.Tensor:
        """[N, k] as tokens of this range; columns of codebooks behind its end are left out."""
        if array.ndim != 2:
            raise ValueError(f"tokens [N, k] are needed, got {list(array.shape)}")
        tokens = torch.from_numpy(array.astype(np.int64))
        self.codec.check(tokens[None], self.first_codebook)
        return tokens[:, : self.codec.num_codebooks - self.first_codebook]


class Resynthesise(CodecProgram):
    """Speech -> tokens -> speech of those from ``first_codebook`` on, as long as it was."""

    def __init__(self, *, codec: SpeechTokenizer, first_codebook: int = 0, batch_seconds: float = 24.0):
        super().__init__(codec=codec, first_codebook=first_codebook, batch_seconds=batch_seconds)
        self.inputs = {"audio": Role("audio", "s1.scp", sample_rate=codec.sample_rate)}
        self.results = {
            "tokens": Role("tokens", "tokens/.npy", sample_rate=self.tokens.sample_rate, optional=True),
            "audio": self.sound,
        }

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        recordings = [item["audio"] for item in items]
        tokens = self.codec.encode_files(recordings)
        signals = self.speech([x[:, self.first_codebook :] for x in tokens], [one.samples for one in recordings])
        return [{"tokens": x, "audio": signal} for x, signal in zip(tokens, signals, strict=True)]


def _cut(parts: Iterator[torch.Tensor], samples: int) -> Iterator[torch.Tensor]:
    """The first ``samples`` of a signal in parts, on the CPU."""
    while samples > 0:
        part = next(parts, None)
        if part is None:
            return
        yield part[:samples].cpu()
        samples -= len(part)
