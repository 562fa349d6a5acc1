"""How ELLA-V speaks: unit by unit, each with its codes and EOP, all sequences of a batch at once (arXiv 2401.07333)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.dpslm.vocabulary import BOS, EOP, Vocabulary
from modules.sampling import Draws, choose, is_greedy, require_sampling

RULES = ("exact", "published")
_CHECK = 8  # steps between looks at who has finished: a look waits for the device
_POSITIONS = 1 << 17  # about how many positions are computed together

Said = list[tuple[int, list[int]]]  # units, and of each its codes


@dataclass(frozen=True)
class Rules:
    """What is fed, masked and forced while ELLA-V generates.

    Attributes:
        temperature, top_p: see ``modules.sampling.choose``.
        max_codec_tokens_per_phone: m, codes of a unit.
        generation_rules: ``exact``: only codes and EOP are drawn, and after m codes EOP is forced. ``published``: any
            token is drawn, and EOP is forced after m + 1 codes, of the first unit after m + 2.
        max_tokens: of a sequence, drawn and fed; it ends there. None: no limit.
        piece_units: longer sequences are generated in pieces of so many units, ...
        context_units: ... of which the first so many are the last of the piece before, with their codes.

    Raises:
        ValueError: a value is out of range.
    """

    temperature: float = 1.0
    top_p: float = 0.8
    max_codec_tokens_per_phone: int = 10
    generation_rules: str = "exact"
    max_tokens: int | None = None
    piece_units: int = 500
    context_units: int = 50

    def __post_init__(self) -> None:
        require_sampling(self.temperature, self.top_p)
        if self.generation_rules not in RULES:
            raise ValueError(f"generation_rules must be {' or '.join(RULES)}, got {self.generation_rules!r}")
        if self.max_codec_tokens_per_phone < 1:
            raise ValueError(f"max_codec_tokens_per_phone must be above 0, got {self.max_codec_tokens_per_phone}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be above 0, or null for no limit, got {self.max_tokens}")
        if not 0 <= self.context_units < self.piece_units:
            raise ValueError(
                f"context_units must be 0 or more and below piece_units, got {self.context_units} and "
                f"{self.piece_units}"
            )


class Stepping(Protocol):
    """A language model with a memory of what it was fed, for B sequences of different lengths."""

    def begin(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Prompts [B, S], padded at their right, and their lengths -> the logits behind each one's last id, [B, V]."""
        ...

    def step(self, ids: Tensor) -> Tensor:
        """One id more of each sequence, [B] -> [B, V]."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these sequences alone."""
        ...


@dataclass
class Utterance:
    """What is to be said, and what has been.

    Attributes:
        units: [U] without repeats.
        prompt: units and codes that come before, in whose voice it is said.
        said: of each unit that has been begun its codes.
        tokens: how many were drawn or fed.
        was_cut: ``max_tokens`` ended it.
    """

    units: list[int]
    prompt: Said = field(default_factory=list)
    said: Said = field(default_factory=list)
    tokens: int = 0
    was_cut: bool = False

    @property
    def codes(self) -> list[int]:
        """All of them."""
        return [code for _, codes in self.said for code in codes]

    def piece(self, rules: Rules) -> tuple[Said, list[int]]:
        """What the next piece is prompted with, and its own units; none if all is said."""
        if self.was_cut or len(self.said) == len(self.units):
            return [], []
        before = [*self.prompt, *self.said]
        before = before[-rules.context_units :] if rules.context_units else []
        begin = len(self.said)
        return before, self.units[begin : begin + rules.piece_units - len(before)]


def speak(
    model: Stepping, vocabulary: Vocabulary, utterances: Sequence[Utterance], *, seeds: Sequence[int], rules: Rules
) -> None:
    """Say all utterances, each as it would be said alone.

    Args:
        model: see ``Stepping``.
        seeds: of each utterance; with the number of the step they give all that is drawn.
    """
    draws = Draws(seeds)
    while pieces := [(row, *u.piece(rules)) for row, u in enumerate(utterances) if u.piece(rules)[1]]:
        for some in _together(pieces, rules):
            _Piece(model, vocabulary, rules, draws, [row for row, _, _ in some], utterances).run(
                [before for _, before, _ in some], [units for _, _, units in some]
            )


def _together(pieces: Sequence[tuple[int, Said, list[int]]], rules: Rules) -> list[list[tuple[int, Said, list[int]]]]:
    """Pieces that are computed together, the longest first; so many that their memory is bounded."""
    found: list[list[tuple[int, Said, list[int]]]] = []
    room = 0
    for piece in sorted(pieces, key=lambda piece: -len(piece[2])):
        needed = len(piece[2]) * (3 + min(rules.max_codec_tokens_per_phone, 4)) + 8 * len(piece[1])
        if not found or needed > room:
            found.append([])
            room = _POSITIONS
        found[-1].append(piece)
        room -= needed
    return found


class _Piece:
    """One piece of several utterances, from their prompts to the EOP of their last units."""

    def __init__(
        self,
        model: Stepping,
        vocabulary: Vocabulary,
        rules: Rules,
        draws: Draws,
        rows: list[int],
        utterances: Sequence[Utterance],
    ):
        self.model, self.vocabulary, self.rules, self.draws = model, vocabulary, rules, draws
        self.rows = rows  # of the sequences that go on, their places among the utterances
        self.utterances = utterances
        self.is_exact = rules.generation_rules == "exact"
        self.eop = vocabulary.special(EOP)
        device = vocabulary.ids.device
        self.is_closed = torch.ones(vocabulary.size, dtype=torch.bool, device=device)
        self.is_closed[vocabulary.of_codes(torch.arange(vocabulary.num_codes, device=device))] = False
        self.is_closed[self.eop] = False
        self.symbols = vocabulary.symbols.cpu()

    @torch.no_grad()
    def run(self, before: Sequence[Said], units: Sequence[list[int]]) -> None:
        vocabulary, device = self.vocabulary, self.vocabulary.ids.device
        self.units, _ = _padded([vocabulary.of_units(_tensor(u, device)) for u in units])
        self.last = torch.tensor([len(u) - 1 for u in units], device=device)
        self.place, self.count = torch.zeros_like(self.last), torch.zeros_like(self.last)
        self.feeds_unit = torch.zeros_like(self.last, dtype=torch.bool)
        for row, mine in zip(self.rows, units, strict=True):
            self.utterances[row].said.append((mine[0], []))
        self.waiting = {row: mine[:0:-1] for row, mine in zip(self.rows, units, strict=True)}
        self.is_due = dict.fromkeys(self.rows, False)
        prompts = [self._prompt(b, u) for b, u in zip(before, units, strict=True)]
        logits = self.model.begin(*_padded(prompts))
        while self.rows:
            if (ids := self._some_steps(logits)) is None:
                return
            logits = self.model.step(ids)

    def _prompt(self, before: Said, units: list[int]) -> Tensor:
        """All units, BOS, what was said of the units before, and the first that is to be said."""
        v, device = self.vocabulary, self.vocabulary.ids.device
        parts = [v.of_units(_tensor([*(u for u, _ in before), *units], device)), v.ids[BOS][None]]
        for unit, codes in before:
            parts += [v.of_units(_tensor([unit], device)), v.of_codes(_tensor(codes, device)), v.ids[EOP][None]]
        return torch.cat([*parts, v.of_units(_tensor(units[:1], device))])

    def _some_steps(self, logits: Tensor) -> Tensor | None:
        """Steps until the next look; returns the ids to be fed then, None if all have finished."""
        rows, draws = self.rows, None
        done = [self.utterances[row].tokens for row in rows]
        if not is_greedy(self.rules.temperature, self.rules.top_p):
            numbers = np.stack([self.draws.at(rows, [n + step for n in done]) for step in range(_CHECK)])
            draws = torch.from_numpy(numbers).to(self.units.device, non_blocking=True)
        made = []
        for step in range(_CHECK):
            if step:
                logits = self.model.step(made[-1])
            made.append(self._choose(logits, None if draws is None else draws[step]))
        self._look(torch.stack(made, dim=1).cpu())
        keep = [place for place, row in enumerate(rows) if row in self.waiting]
        self.rows = [rows[place] for place in keep]
        if not keep:
            return None
        ids = made[-1]
        if len(keep) < len(rows):
            chosen = torch.tensor(keep, device=ids.device)
            self.model.keep(chosen)
            for name in ("units", "last", "place", "count", "feeds_unit"):
                setattr(self, name, getattr(self, name)[chosen])
            ids = ids[chosen]
        return ids

    def _choose(self, logits: Tensor, draws: Tensor | None) -> Tensor:
        """The next id of each sequence: the unit that is due, EOP where it is forced, or what the network says."""
        rules, limit = self.rules, self.rules.max_codec_tokens_per_phone
        if self.is_exact:
            logits = logits.masked_fill(self.is_closed, -torch.inf)
        ids = choose(logits, draws, temperature=rules.temperature, top_p=rules.top_p)
        ids = torch.where(self.count >= limit if self.is_exact else self.count > limit + 1, self.eop, ids)
        self.place = torch.minimum(self.place + self.feeds_unit.long(), self.last)
        due = self.units.gather(1, self.place[:, None])[:, 0]
        fed = self.feeds_unit
        ids = torch.where(fed, due, ids)
        # Published, a unit counts as a code would, so that the first one may have a code more than the others.
        self.count = torch.where(fed & self.is_exact, 0, self.count + 1)
        self.feeds_unit = ~fed & (ids == self.eop)
        self.count = torch.where(self.feeds_unit, 0, self.count)
        return ids

    def _look(self, ids: Tensor) -> None:
        """Note what was made, [B, steps] on the host, up to the end of each sequence."""
        symbols = self.symbols[ids]
        codes = self.vocabulary.codes_among(symbols)
        for row, kinds, values in zip(self.rows, symbols.tolist(), codes.tolist(), strict=True):
            for symbol, code in zip(kinds, values, strict=True):
                if self._note(row, symbol, code):
                    del self.waiting[row]
                    break

    def _note(self, row: int, symbol: int, code: int) -> bool:
        """Take in one token of a sequence; returns whether it is the last."""
        utterance, waiting, is_last = self.utterances[row], self.waiting[row], False
        utterance.tokens += 1
        if self.is_due[row]:
            utterance.said.append((waiting.pop(), []))
            self.is_due[row] = False
        elif symbol == EOP:
            self.is_due[row], is_last = bool(waiting), not waiting
        elif code >= 0:
            utterance.said[-1][1].append(code)
        if utterance.tokens == self.rules.max_tokens:
            utterance.was_cut = not is_last or len(utterance.said) < len(utterance.units)
            is_last = True
        return is_last


def _tensor(values: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)


def _padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """[B, S] of the rows with zeros at their right, and their lengths [B]."""
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    return pad_sequence(list(rows), batch_first=True), lengths
