"""Metrics in tokens, and the step before them: every signal tokenised once, and the target's tokens made audible."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data import arrays
from evaluation.items import Item, Problem, read_strictly
from evaluation.metric import SAMPLE_RATE, Column, Metric, Score, Signals, Unavailable, Unscorable
from utils.files import read_arrays

if TYPE_CHECKING:  # torch takes half a gigabyte, and most metrics are without it
    import torch

    from running.work import Setup


@dataclass(frozen=True)
class TokenSystem:
    """The recipe's tokenizer and vocoder, as far as they are needed here.

    Attributes:
        codebooks: names of the codebooks.
        vocab_size: entries of each.
        digest: of the tokenizer's and the vocoder's weights, and of how speech is cut.
    """

    codebooks: tuple[str, ...]
    vocab_size: int
    digest: str


def build_system(setup: Setup, device: str | torch.device = "cpu") -> Any:
    """The part of the recipe's system that turns sound into tokens and back; see ``models.load.load_token_system``.

    Raises:
        Unavailable: the recipe cannot be built, or its system knows no tokens.
    """
    from models.load import load_token_system

    try:
        return load_token_system(setup.recipe(), setup.checkpoint, device=device)
    except (ValueError, OSError) as error:
        raise Unavailable(str(error)) from error


def describe(setup: Setup) -> TokenSystem:
    """Build the recipe's system once, to see what it is. Raises Unavailable."""
    system = build_system(setup)
    weights = [part.digest() for part in (system.tokenizer, system.vocoder)]
    # Paths may change without a change of what lies there.
    recipe = setup.recipe()
    keys = [key for key in ("model", "tokenizer", "vocoder") if key in recipe]
    settings = [line for line in recipe.text(*keys).splitlines() if "_path:" not in line]
    digest = hashlib.sha256("\n".join([*weights, *settings]).encode()).hexdigest()
    return TokenSystem(tuple(system.tokenizer.codebook_names), system.tokenizer.vocab_size, digest)


def start(device: str, setup: Setup, digest: str) -> Callable[[Item], None]:
    """Load the system in this process; returns what tokenises an item and keeps the result, for ``run_jobs``."""
    import torch

    from data import audio
    from data.writing import write
    from running.work import settle
    from utils.files import write_arrays

    device = torch.device(device)
    settle(device, setup.threads)
    system = build_system(setup, device)
    rate = system.tokenizer.sample_rate

    def native(path: Path, checked: np.ndarray) -> np.ndarray:
        """What the system hears of a file; the same as was checked, if that is at its rate."""
        return checked if rate == SAMPLE_RATE else audio.read(path, sample_rate=rate)

    def tokenise(item: Item) -> None:
        try:
            files = {role: item.paths[role] for role in ("target", "mixture") if role in item.paths}
            files["extracted"] = item.output
            rates = (SAMPLE_RATE, item.sample_rate)
            wavs = {
                role: native(path, read_strictly(path, rates=rates, may_be_silent=item.may_be_silent(role)))
                for role, path in files.items()
            }
        except Problem:
            return  # it is told where the item is scored
        tokens = {role: system.encode(wav).numpy() for role, wav in wavs.items() if role != "target"}
        if "target" in wavs:
            made = system.resynthesise(wavs["target"])
            # What a 16-bit file holds, as of an extraction: so the ceiling is measured on the same footing.
            write(item.stored["ceiling"], made.wav.numpy(), sample_rate=system.vocoder.sample_rate)
            tokens["target"] = made.tokens.numpy()
            tokens["ceiling"] = system.encode(audio.read(item.stored["ceiling"], sample_rate=rate)).numpy()
        kept = {name: array.astype(np.int32) for name, array in tokens.items()}
        write_arrays(item.stored["tokens"], {**kept, "key": np.array(key(item, digest))})

    return tokenise


def is_tokenised(item: Item, digest: str) -> bool:
    """Whether what is kept of an item is whole, and made by this tokenizer from these files."""
    try:
        kept = read_arrays(item.stored["tokens"])
    except (OSError, ValueError):
        return False
    whole = "target" not in item.paths or item.stored["ceiling"].exists()
    return whole and str(kept.get("key")) == key(item, digest)


def key(item: Item, digest: str) -> str:
    return hashlib.sha256(json.dumps([digest, item.stamps("extracted")]).encode()).hexdigest()


def read_tokens(item: Item) -> dict[str, np.ndarray]:
    """The tokens [N, K] that are kept of ``extracted``, ``mixture``, ``target``, ``ceiling`` and ``predicted``."""
    tokens = {}
    if item.stored["tokens"].exists():
        tokens = read_arrays(item.stored["tokens"])
        tokens.pop("key", None)
    if item.stored["predicted"].exists():
        tokens["predicted"] = arrays.read_tokens(item.stored["predicted"])
    return tokens


class TokenError(Metric):
    """How many tokens of the output differ from the target's.

    Args:
        system: whose tokens.
        source: ``output`` for the tokenizer's on the output, ``predicted`` for those that the network gave.
    """

    reads_tokens = True

    def __init__(self, system: TokenSystem, *, source: str = "output"):
        self.source = source
        self.name, self.floor_and_ceiling = {
            "output": ("tokens", "always"),
            "predicted": ("predicted_tokens", "never"),
        }[source]
        self.models = {"tokenizer and vocoder": system.digest}
        whose = "the tokenizer's tokens of the output" if source == "output" else "the network's tokens"
        prefix, title = ("", "Token error") if source == "output" else ("predicted_", "Predicted token error")
        self._keys = [f"{prefix}token_error", *(f"{prefix}token_error_{name}" for name in system.codebooks)]
        titles = [title, *(f"{title}, {name.replace('_', ' ')}" for name in system.codebooks)]
        where = ["all codebooks", *system.codebooks]
        self.columns = tuple(
            Column(key, title, f"{whose} that differ from the target's, {part}, over all frames", "lower", "%", True)
            for key, title, part in zip(self._keys, titles, where, strict=True)
        )

    def score(self, signals: Signals) -> dict[str, Score]:
        if missing := [name for name in (self.source, "target") if name not in signals.tokens]:
            raise Unscorable(signals.without_tokens or f"no tokens: {' and '.join(missing)}")
        given, target = signals.tokens[self.source], signals.tokens["target"]
        if given.shape[1:] != target.shape[1:]:
            raise Unscorable(f"{given.shape[1]} codebooks, but the target's tokens have {target.shape[1]}")
        frames = min(len(given), len(target))  # they differ where lengths may
        wrong = (given[:frames] != target[:frames]).sum(axis=0)
        counts = [(100.0 * wrong.sum(), wrong.size * frames), *((100.0 * count, frames) for count in wrong)]
        return {key: (float(count), int(total)) for key, (count, total) in zip(self._keys, counts, strict=True)}


def _are_of(array: np.ndarray, system: TokenSystem) -> bool:
    """Whether tokens that may be of another system can be this one's."""
    is_alike = array.ndim == 2 and array.shape[1] == len(system.codebooks)
    return is_alike and array.min(initial=0) >= 0 and array.max(initial=0) < system.vocab_size


def codebook_usage(items: Sequence[Item], system: TokenSystem) -> dict[str, dict[str, dict[str, float]]]:
    """How much of each codebook is used: codebook -> whose tokens -> ``used`` (share of entries) and ``perplexity``.

    Perplexity is 2 to the entropy, in bits, of the tokens' distribution over all files.
    """
    counts: dict[str, np.ndarray] = {}
    for item in items:
        for whose, array in read_tokens(item).items():
            if _are_of(array, system):
                table = counts.setdefault(whose, np.zeros((len(system.codebooks), system.vocab_size), dtype=np.int64))
                for row, column in zip(table, array.T, strict=True):
                    row += np.bincount(column, minlength=system.vocab_size)
    usage: dict[str, dict[str, dict[str, float]]] = {}
    for whose, table in counts.items():
        for name, row in zip(system.codebooks, table, strict=True):
            share = row[row > 0] / row.sum()
            perplexity = float(2 ** -(share * np.log2(share)).sum())
            usage.setdefault(name, {})[whose] = {"used": float((row > 0).mean()), "perplexity": perplexity}
    return usage
