"""The unit language model of DP-SLM (arXiv 2505.23494) for use: how likely units are, and what comes after them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.dpslm.language_files import NETWORK, LanguageFile
from models.dpslm.repeats import collapsed
from models.dpslm.unit_lm_files import read_unit_lm
from models.dpslm.unit_lm_network import BOS, UnitNetwork
from modules.frozen import Frozen
from modules.sampling import Draws, choose, is_greedy, require_sampling
from utils.checkpoint import flatten, load_tensors
from utils.precision import autocast, require_known

_POSITIONS = 1 << 15  # about how many positions are computed together
_CHECK = 8  # steps between looks at who has finished: a look waits for the device
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Continuation:
    """What came after a prompt.

    Attributes:
        units: [n] int64 on the CPU.
        was_cut: ``max_units`` ended it, and not the model.
    """

    units: Tensor
    was_cut: bool


class UnitLanguageModel(Frozen):
    """Scores and continues units, in batches of any lengths; ``load_checkpoint`` gives it its weights.

    Args:
        network: its sizes are those that the file must have.
        max_units: new ones of a continuation.
        min_units: new ones before the model may end it.
        temperature, top_p: see ``modules.sampling.choose``.
        no_repeat: a unit never follows itself, as in what the model was trained on.
        precision: of continuations; scores are computed in float32 in any.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        *,
        network: UnitNetwork,
        max_units: int = 200,
        min_units: int = 1,
        temperature: float = 1.0,
        top_p: float = 1.0,
        no_repeat: bool = True,
        precision: str = "fp32",
    ):
        super().__init__()
        require_known(precision)
        self.network = network
        self.num_clusters = network.sizes["num_clusters"]
        self.max_units, self.min_units = max_units, min_units
        self.temperature, self.top_p = temperature, top_p
        self.no_repeat = no_repeat
        self.precision = precision
        self._require(max_units, temperature, top_p)
        self.provenance: Mapping[str, Any] = {}  # of what the loaded weights were trained on, where that is known
        self.freeze()

    def _require(self, max_units: int, temperature: float, top_p: float) -> None:
        require_sampling(temperature, top_p)
        if max_units < 1 or not 0 <= self.min_units:
            raise ValueError(f"max_units must be above 0 and min_units not below, got {max_units} and {self.min_units}")
        if self.no_repeat and self.num_clusters < 2:
            raise ValueError("of a single unit nothing can follow but itself: no_repeat needs num_clusters above 1")

    def load_checkpoint(self, path: str | os.PathLike) -> None:
        """Load a released file, or a checkpoint of this project, strictly.

        Raises:
            FileNotFoundError, ValueError: see ``read_unit_lm``; sizes other than this model's, or tensors that are
                missing, unexpected, misshaped or not finite.
        """
        file: LanguageFile = read_unit_lm(path)
        file.require_sizes(self.network.sizes)
        load_tensors({NETWORK: self.network}, flatten({NETWORK: file.tensors}), path)
        self.provenance = file.provenance

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """ids [B, S] in [0, K], 0 is BOS, unit u is u + 1 -> [B, S, K + 1] float32."""
        if ids.ndim != 2 or not ids.numel() or not 0 <= int(ids.min()) <= int(ids.max()) <= self.num_clusters:
            raise ValueError(f"ids must be [B, S] in [0, {self.num_clusters}], got {list(ids.shape)}")
        with autocast(self._device, "fp32"):
            return self.network(ids.to(self._device))

    forward = logits

    @torch.no_grad()
    def score(self, units: Sequence[Tensor]) -> list[float]:
        """Of each the sum over its units of log p(unit | BOS, those before), natural logarithm, in float32.

        Args:
            units: [U] each, in [0, K); repeats are removed.

        Raises:
            ValueError: no units, or units outside [0, K).
        """
        sequences = [torch.cat([torch.tensor([BOS]), collapsed(u, self.num_clusters) + 1]) for u in units]
        scores = [0.0] * len(sequences)
        for rows in _together([len(s) for s in sequences]):
            ids = pad_sequence([sequences[row] for row in rows], batch_first=True).to(self._device)
            with autocast(self._device, "fp32"):
                chances = self.network(ids[:, :-1]).log_softmax(dim=-1)
            each = chances.gather(2, ids[:, 1:, None])[..., 0].double().cpu()
            for row, found in zip(rows, each, strict=True):
                scores[row] = float(found[: len(sequences[row]) - 1].sum())
        return scores

    def generate(
        self,
        units: Sequence[Tensor],
        *,
        seeds: Sequence[int],
        max_units: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> list[Tensor]:
        """The new units of each prompt, [n] int64 on the CPU; see ``go_on``."""
        settings = {"max_units": max_units, "temperature": temperature, "top_p": top_p}
        return [found.units for found in self.go_on(units, seeds=seeds, **settings)]

    def go_on(
        self,
        units: Sequence[Tensor],
        *,
        seeds: Sequence[int],
        max_units: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> list[Continuation]:
        """Continue prompts; what is drawn follows from the seed of each and the number of the step.

        Args:
            units: [U] each, in [0, K); repeats are removed.
            seeds: an integer each.
            max_units, temperature, top_p: others than the model's own.

        Raises:
            ValueError: an empty prompt, units outside [0, K), another number of seeds, or values out of range.
        """
        if len(seeds) != len(units):
            raise ValueError(f"{len(units)} prompts need as many seeds, got {len(seeds)}")
        most = self.max_units if max_units is None else max_units
        temperature = self.temperature if temperature is None else temperature
        top_p = self.top_p if top_p is None else top_p
        self._require(most, temperature, top_p)
        prompts = [torch.cat([torch.tensor([BOS]), collapsed(u, self.num_clusters) + 1]) for u in units]
        found: list[Continuation] = [None] * len(prompts)
        for rows in _together([len(prompt) + most for prompt in prompts]):
            draws = None if is_greedy(temperature, top_p) else Draws([int(seeds[row]) for row in rows])
            with torch.no_grad(), autocast(self._device, self.precision):
                new = self._new([prompts[row] for row in rows], draws, most, temperature=temperature, top_p=top_p)
            for row, ids in zip(rows, new, strict=True):
                ended = ids and ids[-1] == BOS
                new_ids = torch.tensor(ids[: len(ids) - bool(ended)], dtype=torch.int64)
                found[row] = Continuation(new_ids - 1, not ended)
        return found

    def _new(
        self, prompts: Sequence[Tensor], draws: Draws | None, most: int, *, temperature: float, top_p: float
    ) -> list[list[int]]:
        """The new ids of each prompt, with BOS at the end where the model ended it."""
        model, made = self.network.stepping(), [[] for _ in prompts]
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self._device)
        logits = model.begin(pad_sequence(list(prompts), batch_first=True).to(self._device), lengths)
        last = torch.stack([prompt[-1] for prompt in prompts]).to(self._device)
        rows, step = list(range(len(prompts))), 0
        while rows and step < most:
            ids = []
            numbers = None
            steps = range(step, min(step + _CHECK, most))
            if draws is not None:
                numbers = torch.from_numpy(np.stack([draws.at(rows, [s] * len(rows)) for s in steps])).to(self._device)
            for place, step in enumerate(steps):
                if self.no_repeat:
                    logits = logits.scatter(1, last[:, None], -torch.inf)
                if step < self.min_units:
                    logits[:, BOS] = -torch.inf
                drawn = None if numbers is None else numbers[place]
                last = choose(logits, drawn, temperature=temperature, top_p=top_p)
                ids.append(last)
                if step + 1 < most:
                    logits = model.step(last)
            step += 1
            keep = []
            for place, (row, new) in enumerate(zip(rows, torch.stack(ids, dim=1).tolist(), strict=True)):
                end = new.index(BOS) + 1 if BOS in new else None
                made[row] += new[:end]
                if end is None:
                    keep.append(place)
            if len(keep) < len(rows):
                rows = [rows[place] for place in keep]
                chosen = torch.tensor(keep, dtype=torch.int64, device=self._device)
                model.keep(chosen)
                logits, last = logits[chosen], last[chosen]
        return made

    @property
    def _device(self) -> torch.device:
        return self.network.output.weight.device


def _together(lengths: Sequence[int]) -> list[list[int]]:
    """Places of sequences that are computed together, the longest first; so many that their memory is bounded."""
    found: list[list[int]] = []
    longest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not found or (len(found[-1]) + 1) * longest > _POSITIONS:
            found.append([])
            longest = lengths[place]
        found[-1].append(place)
    return found
