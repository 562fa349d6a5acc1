"""The contracts that systems meet in. Tokens are the common currency: int64 [B, N, K], values in [0, V)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from modules.frames import FrameGrid

# ---- what is run -----------------------------------------------------------------------------------------------------

KINDS = ("audio", "array", "tokens", "text", "file", "row")
# The files beside results that say what made them: any, and tokens.
RECORD = "inference.json"
TOKENS_RECORD = "tokens.json"


@dataclass(frozen=True)
class Role:
    """One input of a program, a column of its lists; or one of its results.

    Attributes:
        kind: ``audio``; ``array``, of floating point, or ``tokens``, integers, both as .npy; ``text``; ``file``, of
            inputs alone: a path, which the program reads in its own way; or, of results alone, ``row``: plain values by
            name, a line in a file for all.
        file: of an input, its list in a folder of lists, ``mix_clean.scp``; of a result, the suffix of its files,
            ``.wav``, with a folder before it if they go into one, ``tokens/.npy``; of a row, the file, which may be
            the record.
        sample_rate: Hz of audio; of arrays and tokens, rows a second.
        channels: of audio; None: as many as the file has.
        nearest: audio of another rate is as long as the whole number of samples next to its duration, and not, as
            resampling gives it, rounded up.
        optional: an input may be missing; a result is kept only where it is asked for.
    """

    kind: str
    file: str
    sample_rate: float | None = None
    channels: int | None = 1
    optional: bool = False
    nearest: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the kind of a role is one of {', '.join(KINDS)}, got {self.kind!r}")


@dataclass(frozen=True)
class Recording:
    """A signal that is read as it is needed, so that its length does not matter.

    Attributes:
        read: ``read(start, length)`` gives samples ``start`` to ``start + length``, at most; [T], or [C, T].
        samples: how many there are.
        source: the file that it is read from; empty where it is in memory.
    """

    read: Callable[[int, int], np.ndarray | torch.Tensor]
    samples: int
    source: str = ""

    @classmethod
    def of(cls, wav: np.ndarray | torch.Tensor) -> Recording:
        """A signal that is in memory, [T] or [C, T]."""
        return cls(lambda start, length: wav[..., start : start + length], wav.shape[-1])

    def whole(self) -> np.ndarray | torch.Tensor:
        """All of it."""
        return self.read(0, self.samples)


@dataclass(frozen=True)
class Item:
    """What a program is given to work on: a name of a list, and its inputs by role.

    An input is a ``Recording``, an array, a text or a path, as the role's kind says. A missing optional one is not
    there.
    """

    name: str
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, role: str) -> Any:
        return self.inputs[role]


class Program(Protocol):
    """What can be run of a system. It knows nothing of lists, folders, processes and records.

    Attributes:
        inputs: by role. The first one's length decides what is computed together.
        results: by role.
        checkpoint: whether ``load_checkpoint`` comes first: ``needed``, ``optional``, or ``refused``.
        batch_seconds: of the first input, that are computed together; a longer item is alone.
        record: the file beside the results that says what made them.
        shares_folder: results of the same weights with other settings may lie in the same folder under other names:
            each file stands for itself, and nobody reads the folder as one thing.
    """

    inputs: Mapping[str, Role]
    results: Mapping[str, Role]
    checkpoint: str
    batch_seconds: float
    record: str
    shares_folder: bool

    def digests(self) -> Mapping[str, str]:
        """Of the weights that a result follows from, by name: kept beside the results, and compared."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """Plain values that whoever reads the results may want to know."""
        ...

    def check_record(self, record: Mapping[str, Any]) -> None:
        """Look at the record beside the tokens or arrays that this is given: digests and facts of what made them.

        Raises:
            ValueError: they are not of what this reads, however well their shapes fit.
        """
        ...

    def load_checkpoint(self, path: str) -> None: ...

    def outputs(self, item: Item) -> Sequence[str]:
        """Under which names the results of an item are kept: usually its own alone.

        Nothing is read yet: of recordings and arrays the item has the paths. What can be refused before any work is,
        by a ValueError.
        """
        ...

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        """The results by role, one mapping for each item, or for each name in ``outputs(item)``, in order.

        Audio is [T] or [C, T], or an iterator of such parts, each made when it is asked for, in the order of the items.
        """
        ...


# ---- what programs are made of ---------------------------------------------------------------------------------------


class TokenFormat(Protocol):
    """What a producer and a consumer of tokens must agree on."""

    sample_rate: int  # Hz
    hop_length: int  # samples a frame
    num_codebooks: int  # K
    vocab_size: int  # V


class Tokenizer(TokenFormat, Protocol):
    codebook_names: tuple[str, ...]  # K of them

    def encode(self, wav: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """wav [B, T], lengths [B] in samples -> tokens [B, N, K]; 0 beyond a row's own frames."""
        ...

    def encode_files(self, recordings: Sequence[Recording]) -> list[torch.Tensor]:
        """Whole files of any length, in bounded memory -> of each the tokens [N, K], on the CPU.

        Short ones are computed together, long ones in pieces; how is the tokenizer's own.
        """
        ...

    def digest(self) -> str:
        """SHA-256 of all that the tokens of a signal follow from."""
        ...


class FeatureTokenizer(Tokenizer, Protocol):
    """A tokenizer that quantises features, one tensor for each codebook, and shows them."""

    grid: FrameGrid
    dim: int  # D of the features
    quantizer: Callable[[Sequence[torch.Tensor]], torch.Tensor]  # K features [B, N, D] -> tokens [B, N, K]
    precision: str

    def features(self, wav: torch.Tensor, lengths: torch.Tensor | None = None, **hints: object) -> list[torch.Tensor]:
        """wav [B, T] -> K features [B, N, D]; ``hints`` are ``kept`` and ``repeats_from``, see ``models.wavlm``."""
        ...


class Vocoder(TokenFormat, Protocol):
    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens [B, N, K] -> wav [B, N * hop_length]."""
        ...

    def parts(self, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
        """The same in parts that follow each other in time, each made when it is asked for."""
        ...

    def digest(self) -> str:
        """SHA-256 of all that the sound of tokens follows from."""
        ...


class TargetExtractor(Protocol):
    sample_rate: int

    def extract(self, mixture: torch.Tensor | np.ndarray, enrolment: torch.Tensor | np.ndarray) -> torch.Tensor:
        """mixture [T] or [B, T], enrolment [T'] or [B, T'] -> the enrolled talker's speech, as long as the mixture."""
        ...


@dataclass(frozen=True)
class Presence:
    """Whether the enrolled talker is in a mixture, by scores in [0, 1].

    Attributes:
        score: of the mixture, the highest of its pieces': the talker may talk in a part of it alone.
        pieces: of each piece that it was cut into, in order.
        ends: where each of them ends, in seconds.
    """

    score: float
    pieces: tuple[float, ...]
    ends: tuple[float, ...]

    def row(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "score": round(self.score, 6),
            "pieces": [round(score, 6) for score in self.pieces],
            "ends": [round(end, 3) for end in self.ends],
        }


@dataclass(frozen=True)
class Extraction:
    """Speech with the tokens that it was made of.

    Attributes:
        wav: [T] or [B, T] float32, on the CPU.
        tokens: [N, K] or [B, N, K] int64, on the CPU.
        presence: whether the talker is there, where the extractor tells; of a batch, one for each row.
    """

    wav: torch.Tensor
    tokens: torch.Tensor
    presence: Presence | None | list[Presence | None] = None


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


class TokenExtractor(TargetExtractor, Protocol):
    """An extractor that works through tokens, and so can be measured by them."""

    tokenizer: Tokenizer
    vocoder: Vocoder
    batch_seconds: float

    def digests(self) -> Mapping[str, str]:
        """Of its parts, by name."""
        ...

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


class PresenceTeller(TokenExtractor, Protocol):
    """An extractor that also says whether the talker is there, if ``tells_presence``; silence where it says no."""

    tells_presence: bool

    def stream_with_presence(
        self, sources: Sequence[Source]
    ) -> list[tuple[torch.Tensor, Iterator[torch.Tensor], Presence]]:
        """As ``stream``, with the presence."""
        ...


def fulfils(thing: object, contract: type) -> bool:
    """Whether an object has all that a protocol asks for.

    ``isinstance`` does not find the parts of a torch module, which are no attributes of its class, since Python 3.12.
    """
    bases = [base for base in contract.__mro__ if base not in (Protocol, object) and base.__module__ != "typing"]
    names = {name for base in bases for name in (*vars(base), *vars(base).get("__annotations__", {}))}
    return all(hasattr(thing, name) for name in names if not name.startswith("_"))


def require_same_format(producer: TokenFormat, consumer: TokenFormat) -> None:
    """Raise a ValueError that names both sides if the tokens of one cannot be read by the other."""
    names = ("sample_rate", "hop_length", "num_codebooks", "vocab_size")
    differing = [n for n in names if getattr(producer, n) != getattr(consumer, n)]
    if differing:
        facts = ", ".join(f"{n} {getattr(producer, n)} against {getattr(consumer, n)}" for n in differing)
        raise ValueError(f"{type(producer).__name__} and {type(consumer).__name__} do not fit together: {facts}")
