"""Which id each token of ELLA-V has. A file carries its own map; a new training takes the published order."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from utils.errors import first_few

SPECIAL = ("UNK", "BOS", "EOP", "EOS")
UNK, BOS, EOP, EOS = range(4)  # as symbols


class Vocabulary(nn.Module):
    """Symbols to ids and back. A symbol is 0 to 3 for the special tokens, 4 + u for unit u, 4 + K + c for code c.

    Args:
        num_clusters: K.
        num_codes: C.

    Attributes:
        ids: [V] int64, of each symbol its id.
        symbols: [V] int64, of each id its symbol.
    """

    ids: Tensor
    symbols: Tensor

    def __init__(self, *, num_clusters: int, num_codes: int):
        super().__init__()
        self.num_clusters, self.num_codes = num_clusters, num_codes
        self.size = len(SPECIAL) + num_clusters + num_codes
        self.names = (*SPECIAL, *(f"u{u}" for u in range(num_clusters)), *(str(c) for c in range(num_codes)))
        self.register_buffer("ids", torch.zeros(self.size, dtype=torch.int64), persistent=False)
        self.register_buffer("symbols", torch.zeros(self.size, dtype=torch.int64), persistent=False)
        units = sorted(self.names[4 : 4 + num_clusters])  # as texts: u0 u1 u10 u100
        self.adopt({name: i for i, name in enumerate((*SPECIAL, *units, *self.names[4 + num_clusters :]))}, "itself")

    def adopt(self, ids: Mapping[str, Any], source: str | os.PathLike) -> None:
        """Take over a map of names to ids.

        Raises:
            ValueError: it is not one id each, 0 to V - 1, for the names of this vocabulary.
        """
        problems = []
        for what, names in (("missing", set(self.names) - ids.keys()), ("unexpected", ids.keys() - set(self.names))):
            if names:
                problems.append(f"{len(names)} {what}: {first_few(sorted(map(str, names)))}")
        if not problems:
            wrong = [f"{n} has {ids[n]!r}" for n in self.names if type(ids[n]) is not int]
            owners: dict[int, str] = {}
            for name in [] if wrong else self.names:
                if not 0 <= ids[name] < self.size or ids[name] in owners:
                    twice = f", as {owners[ids[name]]}" if ids[name] in owners else ""
                    wrong.append(f"{name} has {ids[name]}{twice}")
                owners.setdefault(ids[name], name)
            problems = [f"{len(wrong)} wrong: {first_few(wrong)}"] if wrong else []
        if problems:
            raise ValueError(
                f"{source}: its map of tokens is not one id each of 0 to {self.size - 1} for UNK, BOS, EOP, EOS, "
                f"{self.num_clusters} units and {self.num_codes} codes; {'; '.join(problems)}"
            )
        found = torch.tensor([ids[name] for name in self.names], device=self.ids.device)
        self.ids.copy_(found)
        self.symbols.copy_(torch.argsort(found))

    def to_map(self) -> dict[str, int]:
        """Name -> id, in the order of the ids."""
        return {self.names[symbol]: i for i, symbol in enumerate(self.symbols.tolist())}

    def to_list(self) -> list[str]:
        """The names in the order of their ids."""
        return list(self.to_map())

    def adopt_list(self, names: Sequence[str], source: str | os.PathLike) -> None:
        """``adopt`` of what ``to_list`` gave."""
        self.adopt({name: i for i, name in enumerate(names)}, source)

    def of_units(self, units: Tensor) -> Tensor:
        """Units [...] in [0, K) -> ids."""
        return self.ids[units + len(SPECIAL)]

    def of_codes(self, codes: Tensor) -> Tensor:
        """Codes [...] in [0, C) -> ids."""
        return self.ids[codes + len(SPECIAL) + self.num_clusters]

    def special(self, symbol: int) -> int:
        """The id of ``BOS``, ``EOP``, ..."""
        return int(self.ids[symbol])

    def codes_among(self, symbols: Tensor) -> Tensor:
        """Symbols [...] -> codes, -1 where a symbol is none."""
        return (symbols - len(SPECIAL) - self.num_clusters).clamp(min=-1)
