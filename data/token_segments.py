"""Segments of utterances with the tokens that were made of them before: what a vocoder learns from."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from data import audio
from data.scp import output_paths
from data.utterances import place, read_utterances
from utils.errors import describe, first_few
from utils.files import require_file

MANIFEST = "tokens.json"
log = logging.getLogger(__name__)


class TokenSegments(Dataset):
    """A segment of every utterance, each once in an epoch: aligned tokens and waveform.

    An item is a function of the seed and its key: (epoch, index), shuffled and cut anew in each epoch, or an index, in
    the order of the list and always cut at the same place. Utterances that are too short are left out.

    Args:
        utterances: list or speaker index, see ``data.utterances.read_utterances``.
        tokens: folder that ``inference.py --tokenize`` made of these utterances: ``NAME.npy``, integers [N, K], and
            ``tokens.json``, which says what they are.
        codebooks: what the columns must be: the names in ``tokens.json``, or numbers, ``l`` for ``layer_l``.
        vocab_size: V that the tokens must have.
        hop_length: samples a frame that they must have. Frame n is of the samples ``hop * n`` to ``hop * (n + 1)``.
        frames: length of a segment.
        min_frames: shorter utterances are left out too; the default is 1 s with a hop of 320.
        seed: of order and places.
        limit: only so many utterances, evenly spread over the list; None: all.
        sample_rate: Hz of the segments, and what the tokens are of.

    Raises:
        FileNotFoundError: there is no such list or folder, or it lacks tokens of some utterances.
        ValueError: the tokens are not what is expected, or no utterance is long enough.
    """

    def __init__(
        self,
        *,
        utterances: str | os.PathLike,
        tokens: str | os.PathLike,
        codebooks: Sequence[str | int],
        vocab_size: int,
        hop_length: int = 320,
        frames: int,
        min_frames: int = 50,
        seed: int = 0,
        limit: int | None = None,
        sample_rate: int = audio.SAMPLE_RATE,
    ):
        if frames <= 0 or (limit is not None and limit <= 0):
            raise ValueError(f"frames and limit must be above 0, got {frames} and {limit}")
        named = read_utterances(utterances)
        folder = Path(tokens)
        how = f"make them once with: python inference.py --tokenize {utterances} --config_path RECIPE --output {folder}"
        names = [f"layer_{book}" if isinstance(book, int) else str(book) for book in codebooks]
        expected = {
            "sample_rate": sample_rate,
            "hop_length": hop_length,
            "codebooks": names,
            "vocab_size": vocab_size,
        }
        _require_manifest(folder / MANIFEST, expected, how)
        files = output_paths(folder, named, ".npy")
        pairs = [(path, files[name]) for name, path in named.items()]
        if missing := [file for _, file in pairs if not file.is_file()]:
            raise FileNotFoundError(f"tokens of {len(missing)} of {len(pairs)} utterances are missing in {folder}: "
                                    f"{first_few(f.relative_to(folder) for f in missing)}; {how}")  # fmt: skip
        self.num_codebooks = len(names)
        shortest = max(min_frames, frames)
        long_enough = [pair for pair in pairs if len(self._open(pair[1])) >= shortest]
        if not long_enough:
            raise ValueError(f"none of the {len(pairs)} utterances of {utterances} has {shortest} frames")
        if left_out := len(pairs) - len(long_enough):
            seconds = shortest * hop_length / sample_rate
            log.info("%s: %d of %d utterances left out, below %.2f s", utterances, left_out, len(pairs), seconds)
        if limit is not None and limit < len(long_enough):
            long_enough = [long_enough[i * len(long_enough) // limit] for i in range(limit)]
        self.pairs = long_enough
        self.vocab_size = vocab_size
        self.hop_length = hop_length
        self.frames = frames
        self.seed = seed
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, torch.Tensor]:
        """``tokens`` [n, K] int64 and ``wav`` [n * hop] float32; zeros where the last frame reaches past the file.

        Raises:
            ValueError: a token outside [0, V), or the file is not the one that the tokens are of.
        """
        chosen, rng = place(key, len(self.pairs), seed=self.seed)
        path, file = self.pairs[chosen]
        stored = self._open(file)
        samples = audio.num_samples(path, sample_rate=self.sample_rate)
        if abs(samples - len(stored) * self.hop_length) >= 2 * self.hop_length:
            raise ValueError(
                f"{file} has {len(stored)} frames of {self.hop_length} samples, but {path} has {samples} samples: "
                "these are not its tokens; make them again"
            )
        start = int(rng.random() * (len(stored) - self.frames + 1))
        tokens = stored[start : start + self.frames].astype(np.int64)
        if tokens.min() < 0 or tokens.max() >= self.vocab_size:
            wrong = tokens.min() if tokens.min() < 0 else tokens.max()
            raise ValueError(f"{file} holds the token {wrong}, which is outside 0 to {self.vocab_size - 1}")
        length = self.frames * self.hop_length
        wav = audio.read(path, start=start * self.hop_length, length=length, sample_rate=self.sample_rate)
        return {"tokens": torch.from_numpy(tokens), "wav": torch.from_numpy(audio.pad(wav, length))}

    def _open(self, file: Path) -> np.ndarray:
        """The tokens of a file [N, K], not yet read: only what is used of them will be."""
        require_file(file)
        try:
            stored = np.load(file, mmap_mode="r", allow_pickle=False)
        except OSError:
            raise
        except Exception as error:  # a broken file raises almost anything
            raise ValueError(f"{file} cannot be read as tokens ({describe(error)}): make it again") from error
        if stored.ndim != 2 or stored.shape[1] != self.num_codebooks or stored.dtype.kind not in "iu":
            raise ValueError(
                f"{file} must hold integers [N, {self.num_codebooks}], it has {stored.dtype} {list(stored.shape)}"
            )
        return stored


def _require_manifest(path: Path, expected: dict[str, object], how: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no tokens in {path.parent}: there is no {path.name}; {how}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = {name: found.get(name) for name in expected if found.get(name) != expected[name]}
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} does not say what the tokens are ({describe(error)}); {how}") from error
    if differing:
        facts = "; ".join(f"{name} {there} there, {expected[name]} in the recipe" for name, there in differing.items())
        raise ValueError(
            f"the tokens of {path.parent} are not those that the recipe is for: {facts}. Change the recipe, or, for "
            f"other tokens, {how}"
        )
