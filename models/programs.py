"""Programs of the general contracts: any extractor, tokenizer or vocoder can be run by these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from models.interfaces import (
    RECORD,
    TOKENS_RECORD,
    Extraction,
    Item,
    PresenceTeller,
    Recording,
    Role,
    Source,
    TargetExtractor,
    TokenExtractor,
    TokenFormat,
    Tokenizer,
    Vocoder,
    fulfils,
    require_same_format,
)


class SystemProgram:
    """What most programs have in common: the parts of a system that the results follow from.

    Args:
        parts: by name. One may stand under several names. Those with a ``load_checkpoint`` are trained; one may say, as
            its ``checkpoint``, that this is ``optional``, or ``refused`` since it has its weights already.
        batch_seconds: see ``models.interfaces.Program``.
    """

    inputs: Mapping[str, Role]
    results: Mapping[str, Role]
    record = RECORD
    shares_folder = False

    def __init__(self, parts: Mapping[str, Any], *, batch_seconds: float):
        self.parts = parts
        self.batch_seconds = batch_seconds

    @property
    def checkpoint(self) -> str:
        said = {_policy(part) for part in self.parts.values()}
        return next(policy for policy in ("needed", "optional", "refused") if policy in said)

    def load_checkpoint(self, path: str) -> None:
        """Load a checkpoint into each trained part, once."""
        for part in {id(part): part for part in self.parts.values() if _policy(part) != "refused"}.values():
            part.load_checkpoint(path)

    def to(self, device: str | torch.device) -> SystemProgram:
        """Move all parts."""
        for part in self.parts.values():
            part.to(device)
        return self

    def digests(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for name, part in self.parts.items():
            found |= part.digests() if hasattr(part, "digests") else {name: part.digest()}
        return found

    def facts(self) -> Mapping[str, Any]:
        return {}

    def check_record(self, record: Mapping[str, Any]) -> None:
        """Any inputs will do."""

    def outputs(self, item: Item) -> Sequence[str]:
        return (item.name,)


class Extract(SystemProgram):
    """A mixture and speech of one talker -> the speech of that talker, and the predicted tokens where there are such.

    Of an extractor that tells whether the talker is there, the record has a row for each mixture: see
    ``models.interfaces.Presence``.

    Args:
        extractor: any.
    """

    def __init__(self, *, extractor: TargetExtractor):
        super().__init__({"extractor": extractor}, batch_seconds=getattr(extractor, "batch_seconds", 0.0))
        self.extractor = extractor
        rate = extractor.sample_rate
        self.inputs = {
            "mixture": Role("audio", "mix_clean.scp", sample_rate=rate),
            "enrolment": Role("audio", "aux_s1.scp", sample_rate=rate),
        }
        self.results = {"speech": Role("audio", ".wav", sample_rate=rate)}
        if fulfils(extractor, TokenExtractor):
            frames = rate / extractor.tokenizer.hop_length
            self.results = {"tokens": Role("tokens", "tokens/.npy", sample_rate=frames, optional=True)} | self.results
        self.tells_presence = fulfils(extractor, PresenceTeller) and extractor.tells_presence
        if self.tells_presence:
            self.results = {"presence": Role("row", self.record)} | self.results

    def facts(self) -> Mapping[str, Any]:
        return {"sample_rate": self.extractor.sample_rate}

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        if not fulfils(self.extractor, TokenExtractor):
            return [{"speech": self.extractor.extract(i["mixture"].whole(), i["enrolment"].whole())} for i in items]
        sources = [Source(item["mixture"].read, item["mixture"].samples, item["enrolment"].whole()) for item in items]
        if not self.tells_presence:
            return [{"tokens": tokens, "speech": parts} for tokens, parts in self.extractor.stream(sources)]
        return [
            {"presence": presence.row(), "tokens": tokens, "speech": parts}
            for tokens, parts, presence in self.extractor.stream_with_presence(sources)
        ]


class Tokenize(SystemProgram):
    """Speech -> its tokens.

    Args:
        tokenizer: any.
        batch_seconds: of short files that are computed together.
    """

    record = TOKENS_RECORD

    def __init__(self, *, tokenizer: Tokenizer, batch_seconds: float = 24.0):
        super().__init__({"tokenizer": tokenizer}, batch_seconds=batch_seconds)
        self.tokenizer = tokenizer
        self.inputs = {"audio": Role("audio", "audio.scp", sample_rate=tokenizer.sample_rate)}
        self.results = {"tokens": Role("tokens", ".npy", sample_rate=tokenizer.sample_rate / tokenizer.hop_length)}

    def facts(self) -> Mapping[str, Any]:
        return token_facts(self.tokenizer)

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        recordings = [item["audio"] for item in items]
        return [{"tokens": tokens} for tokens in self.tokenizer.encode_files(recordings)]


class Decode(SystemProgram):
    """Tokens -> their sound.

    Args:
        vocoder: any.
        batch_seconds: of short files that are read together.
    """

    shares_folder = True

    def __init__(self, *, vocoder: Vocoder, batch_seconds: float = 24.0):
        super().__init__({"vocoder": vocoder}, batch_seconds=batch_seconds)
        self.vocoder = vocoder
        frames = vocoder.sample_rate / vocoder.hop_length
        self.inputs = {"tokens": Role("tokens", "tokens.scp", sample_rate=frames)}
        self.results = {"audio": Role("audio", ".wav", sample_rate=vocoder.sample_rate)}

    def facts(self) -> Mapping[str, Any]:
        return {"sample_rate": self.vocoder.sample_rate}

    def check_record(self, record: Mapping[str, Any]) -> None:
        require_same_tokens(record, self.vocoder)

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        checked = [as_tokens(item["tokens"], self.vocoder) for item in items]
        return [{"audio": decoded(self.vocoder, tokens)} for tokens in checked]


class Resynthesise(SystemProgram):
    """Speech -> its tokens -> their sound, as long as the speech.

    Args:
        tokenizer, vocoder: any that fit together; one codec may be both.
        batch_seconds: of short files that are computed together.
        nearest: see ``models.interfaces.Role``, for files of another rate.

    Raises:
        ValueError: they do not fit together.
    """

    def __init__(self, *, tokenizer: Tokenizer, vocoder: Vocoder, batch_seconds: float = 24.0, nearest: bool = False):
        require_same_format(tokenizer, vocoder)
        super().__init__({"tokenizer": tokenizer, "vocoder": vocoder}, batch_seconds=batch_seconds)
        self.tokenizer = tokenizer
        self.vocoder = vocoder
        rate = tokenizer.sample_rate
        self.inputs = {"audio": Role("audio", "s1.scp", sample_rate=rate, nearest=nearest)}
        self.results = {
            "tokens": Role("tokens", "tokens/.npy", sample_rate=rate / tokenizer.hop_length, optional=True),
            "audio": Role("audio", ".wav", sample_rate=vocoder.sample_rate),
        }

    def facts(self) -> Mapping[str, Any]:
        return token_facts(self.tokenizer)

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        recordings: list[Recording] = [item["audio"] for item in items]
        return [
            {"tokens": tokens, "audio": decoded(self.vocoder, tokens, samples=recording.samples)}
            for tokens, recording in zip(self.tokenizer.encode_files(recordings), recordings, strict=True)
        ]


class TokenCodec:
    """A tokenizer and a vocoder that fit together, for signals in memory.

    Args:
        tokenizer, vocoder: any; one codec may be both.
    """

    def __init__(self, *, tokenizer: Tokenizer, vocoder: Vocoder):
        require_same_format(tokenizer, vocoder)
        self.tokenizer = tokenizer
        self.vocoder = vocoder

    def encode(self, wav: np.ndarray | torch.Tensor) -> torch.Tensor:
        """[T] at the tokenizer's rate -> tokens [N, K] on the CPU."""
        return self.tokenizer.encode_files([Recording.of(wav)])[0]

    def resynthesise(self, wav: np.ndarray | torch.Tensor) -> Extraction:
        """[T] -> its tokens, and their sound, [T]."""
        tokens = self.encode(wav)
        return Extraction(torch.cat(list(decoded(self.vocoder, tokens, samples=len(wav)))), tokens)


def token_facts(tokenizer: Tokenizer) -> dict[str, Any]:
    """What is noted of tokens beside them, with what a tokenizer says of itself, if it has ``facts``."""
    return {
        "sample_rate": tokenizer.sample_rate,
        "hop_length": tokenizer.hop_length,
        "codebooks": list(tokenizer.codebook_names),
        "vocab_size": tokenizer.vocab_size,
        **getattr(tokenizer, "facts", {}),
    }


def require_same_tokens(record: Mapping[str, Any], consumer: TokenFormat) -> None:
    """Raise a ValueError if tokens with this record are of another kind than those that are read."""
    names = ("sample_rate", "hop_length", "vocab_size")
    if differing := [n for n in names if n in record and record[n] != getattr(consumer, n)]:
        facts = ", ".join(f"{n} {record[n]} there, {getattr(consumer, n)} here" for n in differing)
        raise ValueError(f"the tokens are of another kind: {facts}")


def as_tokens(array: np.ndarray, consumer: TokenFormat) -> torch.Tensor:
    """An array of a file as tokens [N, K] int64.

    Args:
        array: integers, [N, K], or [N] for one codebook.

    Raises:
        ValueError: another shape, no frames, or a value outside [0, V).
    """
    if array.ndim == 1 and consumer.num_codebooks == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != consumer.num_codebooks or not len(array):
        raise ValueError(f"tokens [N, {consumer.num_codebooks}] are needed, N above 0, got {list(array.shape)}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= consumer.vocab_size:
        raise ValueError(f"tokens must be in [0, {consumer.vocab_size}), got {low} to {high}")
    return torch.from_numpy(array.astype(np.int64))


def decoded(vocoder: Vocoder, tokens: torch.Tensor, *, samples: int | None = None) -> Iterator[torch.Tensor]:
    """The sound of tokens [N, K] in parts, [T] each on the CPU, cut after ``samples``."""
    left = len(tokens) * vocoder.hop_length if samples is None else samples
    parts = vocoder.parts(tokens[None].to(device_of(vocoder)))
    while left > 0:
        with torch.inference_mode():  # not where others go on
            part = next(parts, None)
        if part is None:
            return
        yield part[0, :left].float().cpu()
        left -= part.shape[1]


def device_of(module: Any) -> torch.device:
    """Where a part computes."""
    tensors = [*module.parameters(), *module.buffers()] if isinstance(module, torch.nn.Module) else []
    return tensors[0].device if tensors else torch.device("cpu")


def _policy(part: Any) -> str:
    return getattr(part, "checkpoint", "needed" if hasattr(part, "load_checkpoint") else "refused")
