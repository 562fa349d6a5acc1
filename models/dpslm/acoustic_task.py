"""How ELLA-V trains: the next code, EOP or EOS, given all before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.dpslm.acoustic_files import KIND, TOKEN_KEYS, AcousticFile, newer_layout, read_acoustic, write_acoustic
from models.dpslm.acoustic_network import AcousticNetwork
from models.dpslm.next_token import NextToken
from models.dpslm.sequence import Interleaving
from models.dpslm.vocabulary import Vocabulary


class UnitsToCodes(NextToken):
    """Units and codes in one sequence, see ``models.dpslm.sequence``; frames are those of the codes.

    Args:
        network: what trains.
        interleave: its rates and numbers of units and codes.
        optimizer: makes the optimizer of the network's parameters.
        provenance: of the units and codes, what made them; it is kept with the weights.
    """

    def __init__(
        self,
        *,
        network: AcousticNetwork,
        interleave: Interleaving,
        optimizer: Callable[..., torch.optim.Optimizer],
        provenance: Mapping[str, Any] | None = None,
    ):
        sizes = {**network.sizes, **{key: getattr(interleave, key) for key in TOKEN_KEYS}}
        super().__init__(
            network=network, frame_rate=interleave.code_rate, optimizer=optimizer, sizes=sizes, kind=KIND,
            provenance=provenance,
        )  # fmt: skip
        self.vocabulary = Vocabulary(num_clusters=interleave.num_clusters, num_codes=interleave.num_codes)

    def ids(self, symbols: Tensor) -> Tensor:
        return self.vocabulary.ids[symbols]

    def read(self, source: Path) -> AcousticFile:
        return read_acoustic(source)

    def newer_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return newer_layout(tensors)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "tokens": self.vocabulary.to_list()}

    def adopt_settings(self, settings: Mapping[str, Any], source: Path) -> None:
        """Take over the map of tokens too: a file's rows keep their meaning."""
        if "tokens" in settings:
            self.vocabulary.adopt_list(settings["tokens"], source)
            return
        file = self.read(source)
        file.require_sizes(self.sizes)
        self.vocabulary.adopt(file.tokens, source)

    def export(self, folder: Path) -> list[Path]:
        """``ella_v.pt``, in the released layout."""
        return [write_acoustic(folder, self.sizes, self.vocabulary, self.network.state_dict())]
