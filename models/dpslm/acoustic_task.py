"""How ELLA-V trains: the next code, EOP or EOS, given all before it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dpslm.acoustic_files import NETWORK, TOKEN_KEYS, newer_layout, read_acoustic, write_acoustic
from models.dpslm.acoustic_network import AcousticNetwork
from models.dpslm.sequence import Interleaving
from models.dpslm.vocabulary import Vocabulary
from utils.task import Batch, Networks, Objective, Task

log = logging.getLogger(__name__)


class UnitsToCodes(Task):
    """Cross-entropy over all targets of all sequences, in nats.

    A batch holds ``symbols`` [B, S], ``is_target`` [B, S - 1], both padded at the right, and ``frames`` [B], the codes
    of each (``data.unit_codes``). Validation tells ``loss``, nats a target, and ``loss_per_second``, nats a second of
    speech, which can be compared between units of different rates.

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
        super().__init__()
        self.network = network
        self.make_optimizer = optimizer
        self.provenance = dict(provenance or {})
        self.code_rate = interleave.code_rate
        self.sizes = {**network.sizes, **{key: getattr(interleave, key) for key in TOKEN_KEYS}}
        self.vocabulary = Vocabulary(num_clusters=interleave.num_clusters, num_codes=interleave.num_codes)

    def networks(self) -> dict[str, nn.Module]:
        return {NETWORK: self.network}

    def settings(self) -> dict[str, Any]:
        return {"tokens": self.vocabulary.to_list(), "acoustic": self.sizes, "provenance": self.provenance}

    def initial_settings(self) -> dict[str, Any]:
        return {"acoustic": self.sizes}

    def adopt_settings(self, settings: Mapping[str, Any], source: Path) -> None:
        """Take over the map of tokens: a file's rows keep their meaning."""
        if "tokens" in settings:
            self.vocabulary.adopt_list(settings["tokens"], source)
            return
        file = read_acoustic(source)
        file.require_sizes(self.sizes)
        self.vocabulary.adopt(file.tokens, source)

    def adopt(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of a released file, in either layout, the network."""
        for part in ("model_state.", "model."):
            if found := {n.removeprefix(part): x for n, x in tensors.items() if n.startswith(part)}:
                return {f"{NETWORK}.{name}": x for name, x in newer_layout(found).items()}
        return tensors

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {NETWORK: self.make_optimizer(self.network.parameters())}

    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        nats, count = self._nats(batch, networks[NETWORK])
        yield Objective(NETWORK, nats, {"loss": (nats.detach(), count)}, count)

    def evaluate(self, batch: Batch) -> dict[str, tuple[Tensor, int]]:
        nats, count = self._nats(batch, self.network)
        return {"loss": (nats, int(count)), "loss_per_second": (nats * self.code_rate, int(batch["frames"].sum()))}

    def export(self, folder: Path) -> list[Path]:
        """``ella_v.pt``, in the released layout."""
        return [write_acoustic(folder, self.sizes, self.vocabulary, self.network.state_dict())]

    def _nats(self, batch: Batch, network: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        """The sum over all targets, and how many there are."""
        ids, is_target = self.vocabulary.ids[batch["symbols"]], batch["is_target"]
        logits = network(ids[:, :-1], is_target)  # of the targets alone: most of the work of long vocabularies
        return F.cross_entropy(logits.float(), ids[:, 1:][is_target], reduction="sum"), is_target.sum()
