"""How the unit language model trains: the next unit, given those before it and those of earlier utterances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.dpslm.language_files import LanguageFile
from models.dpslm.next_token import NextToken
from models.dpslm.unit_lm_files import KIND, read_unit_lm, write_unit_lm
from models.dpslm.unit_lm_network import UnitNetwork


class UnitLanguage(NextToken):
    """Chunks of units without repeats, see ``data.unit_chunks``.

    Args:
        network: what trains.
        optimizer: makes the optimizer of the network's parameters.
        unit_rate: unit frames a second.
        provenance: of the units, what made them; it is kept with the weights.
    """

    def __init__(
        self,
        *,
        network: UnitNetwork,
        optimizer: Callable[..., torch.optim.Optimizer],
        unit_rate: float = 50,
        provenance: Mapping[str, Any] | None = None,
    ):
        super().__init__(
            network=network, frame_rate=unit_rate, optimizer=optimizer, sizes=network.sizes, kind=KIND,
            provenance=provenance,
        )  # fmt: skip

    def ids(self, symbols: Tensor) -> Tensor:
        return symbols

    def read(self, source: Path) -> LanguageFile:
        return read_unit_lm(source)

    def export(self, folder: Path) -> list[Path]:
        """``unit_lm.pt``, in the released layout."""
        return [write_unit_lm(folder, self.sizes, self.network.state_dict(), dropout=self.network.dropout)]
