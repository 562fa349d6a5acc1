"""How a language model trains: the next token, given all before it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dpslm.language_files import NETWORK, LanguageFile
from modules.rotary_decoder import RotaryDecoder
from utils.task import Batch, Networks, Objective, Task


class NextToken(Task):
    """Cross-entropy over all targets of all sequences, in nats.

    A batch holds ``symbols`` [B, S], ``is_target`` [B, S - 1], both padded at the right, and ``frames`` [B], how many
    frames of speech each one is of. Validation tells ``loss``, nats a target, and ``loss_per_second``, nats a second of
    speech, which can be compared between units of different rates.

    Args:
        network: what trains.
        frame_rate: frames a second.
        optimizer: makes the optimizer of the network's parameters.
        sizes: by the keys of the recipe; kept with the weights.
        kind: what they are kept as.
        provenance: of the tokens, what made them; it is kept with the weights.
    """

    def __init__(
        self,
        *,
        network: RotaryDecoder,
        frame_rate: float,
        optimizer: Callable[..., torch.optim.Optimizer],
        sizes: Mapping[str, Any],
        kind: str,
        provenance: Mapping[str, Any] | None,
    ):
        super().__init__()
        self.network = network
        self.frame_rate = frame_rate
        self.make_optimizer = optimizer
        self.sizes = dict(sizes)
        self.kind = kind
        self.provenance = dict(provenance or {})

    @abstractmethod
    def ids(self, symbols: Tensor) -> Tensor:
        """What the network has for the symbols of a batch, [B, S] -> [B, S]."""

    @abstractmethod
    def read(self, source: Path) -> LanguageFile:
        """A file whose weights a training starts from."""

    def networks(self) -> dict[str, nn.Module]:
        return {NETWORK: self.network}

    def settings(self) -> dict[str, Any]:
        return {self.kind: self.sizes, "provenance": self.provenance}

    def initial_settings(self) -> dict[str, Any]:
        return {self.kind: self.sizes}

    def adopt_settings(self, settings: Mapping[str, Any], source: Path) -> None:
        """Refuse a released file of other sizes; a checkpoint's settings are compared by the loop."""
        if self.kind not in settings:
            self.read(source).require_sizes(self.sizes)

    def adopt(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of a released file, the network."""
        for part in ("model_state_dict.", "model_state.", "model."):
            if found := {n.removeprefix(part): x for n, x in tensors.items() if n.startswith(part)}:
                return {f"{NETWORK}.{name}": x for name, x in self.newer_names(found).items()}
        return tensors

    def newer_names(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a released file under the names that they have here."""
        return tensors

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {NETWORK: self.make_optimizer(self.network.parameters())}

    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        nats, count = self._nats(batch, networks[NETWORK])
        yield Objective(NETWORK, nats, {"loss": (nats.detach(), count)}, count)

    def evaluate(self, batch: Batch) -> dict[str, tuple[Tensor, int]]:
        nats, count = self._nats(batch, self.network)
        return {"loss": (nats, int(count)), "loss_per_second": (nats * self.frame_rate, int(batch["frames"].sum()))}

    def _nats(self, batch: Batch, network: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        """The sum over all targets, and how many there are."""
        ids, is_target = self.ids(batch["symbols"]), batch["is_target"]
        logits = network(ids[:, :-1], is_target)  # of the targets alone: most of the work of long vocabularies
        return F.cross_entropy(logits.float(), ids[:, 1:][is_target], reduction="sum"), is_target.sum()
