"""ELLA-V (arXiv 2401.07333) for use: units to the codes of a voice that it invents."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.dpslm.acoustic_files import TOKEN_KEYS, AcousticFile, read_acoustic
from models.dpslm.acoustic_network import AcousticNetwork
from models.dpslm.language_files import NETWORK
from models.dpslm.repeats import collapsed
from models.dpslm.sequence import Interleaving
from models.dpslm.speaking import Rules, Said, Utterance, speak
from models.dpslm.vocabulary import Vocabulary
from modules.frozen import Frozen, tensor_digest
from utils.checkpoint import flatten, load_tensors
from utils.files import text_digest
from utils.precision import autocast, require_known

log = logging.getLogger(__name__)


class AcousticModel(Frozen):
    """Units to codes, in batches with a key-value cache; ``load_checkpoint`` gives it its weights and its map.

    Args:
        network: its sizes are those that the file must have.
        num_clusters, num_codes: of units and codes.
        unit_rate, code_rate: frames a second.
        temperature, top_p, max_codec_tokens_per_phone, generation_rules, max_tokens, piece_units, context_units: see
            ``models.dpslm.speaking.Rules``.
        precision: of generation; logits are float32 in any.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        *,
        network: AcousticNetwork,
        num_clusters: int,
        num_codes: int = 4096,
        unit_rate: int = 50,
        code_rate: int = 40,
        temperature: float = 1.0,
        top_p: float = 0.8,
        max_codec_tokens_per_phone: int = 10,
        generation_rules: str = "exact",
        max_tokens: int | None = None,
        piece_units: int = 500,
        context_units: int = 50,
        precision: str = "fp32",
    ):
        super().__init__()
        require_known(precision)
        self.network = network
        self.precision = precision
        self.num_clusters, self.num_codes = num_clusters, num_codes
        self.unit_rate, self.code_rate = unit_rate, code_rate
        self.rules = Rules(
            temperature=temperature, top_p=top_p, max_codec_tokens_per_phone=max_codec_tokens_per_phone,
            generation_rules=generation_rules, max_tokens=max_tokens, piece_units=piece_units,
            context_units=context_units,
        )  # fmt: skip
        self.vocabulary = Vocabulary(num_clusters=num_clusters, num_codes=num_codes)
        self.interleave = Interleaving(
            num_clusters=num_clusters, num_codes=num_codes, unit_rate=unit_rate, code_rate=code_rate
        )
        self.provenance: Mapping[str, Any] = {}  # of what the loaded weights were trained on, where that is known
        self.freeze()

    @property
    def sizes(self) -> dict[str, Any]:
        """By the keys of a recipe."""
        return {**self.network.sizes, **{key: getattr(self, key) for key in TOKEN_KEYS}}

    def load_checkpoint(self, path: str | os.PathLike) -> None:
        """Load a released file, in either layout, or a checkpoint of this project, strictly.

        Raises:
            FileNotFoundError, ValueError: see ``read_acoustic``; sizes other than this model's, a map that is not one
                id each, or tensors that are missing, unexpected, misshaped or not finite.
        """
        file = read_acoustic(path)
        fit(self.network, self.vocabulary, file, self.sizes)
        self.provenance = file.provenance

    def digest(self) -> str:
        """SHA-256 of the weights and the map."""
        return text_digest(tensor_digest(self.network.state_dict()) + tensor_digest({"ids": self.vocabulary.ids}))

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """ids [B, S], of the file's own map -> [B, S, V] float32."""
        if ids.ndim != 2 or not ids.numel() or not 0 <= int(ids.min()) <= int(ids.max()) < self.vocabulary.size:
            raise ValueError(f"ids must be [B, S] in [0, {self.vocabulary.size}), got {list(ids.shape)}")
        with autocast(self.vocabulary.ids.device, "fp32"):
            return self.network(ids.to(self.vocabulary.ids.device))

    forward = logits

    def training_sequence(self, units: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """What the network learns from, by the file's own map.

        Args:
            units: [N] frame-aligned.
            codes: [L] of the same recording.

        Returns:
            ids [S] int64, and [S - 1] bool, whether id i + 1 is a target.

        Raises:
            ValueError: see ``Interleaving``.
        """
        symbols, is_target = self.interleave(np.asarray(units.cpu()), np.asarray(codes.cpu()))
        return self.vocabulary.ids.cpu()[torch.from_numpy(symbols)], torch.from_numpy(is_target)

    def generate(
        self,
        units: Sequence[Tensor],
        *,
        seeds: Sequence[int],
        temperature: float | None = None,
        top_p: float | None = None,
        prompts: Sequence[tuple[Tensor, Tensor] | None] | None = None,
    ) -> list[Tensor]:
        """The codes of each, [L] int64 on the CPU; see ``say``."""
        said = self.say(units, seeds=seeds, temperature=temperature, top_p=top_p, prompts=prompts)
        return [torch.tensor(utterance.codes, dtype=torch.int64) for utterance in said]

    def say(
        self,
        units: Sequence[Tensor],
        *,
        seeds: Sequence[int],
        temperature: float | None = None,
        top_p: float | None = None,
        prompts: Sequence[tuple[Tensor, Tensor] | None] | None = None,
    ) -> list[Utterance]:
        """Say units; what is drawn follows from the seed of each and the number of the step.

        Args:
            units: [U] each, in [0, K); repeats are removed.
            seeds: an integer each.
            temperature, top_p: others than the model's own.
            prompts: of each, frame-aligned units [N] and codes [L] of a recording in whose voice it is said: the last
                ``context_units`` of them come before. None: the voice is invented.

        Raises:
            ValueError: no units, units outside [0, K), another number of seeds or prompts, or values out of range.
        """
        prompts = [None] * len(units) if prompts is None else prompts
        if not len(units) == len(seeds) == len(prompts):
            raise ValueError(f"{len(units)} sequences of units need as many seeds and prompts, got {len(seeds)} and "
                             f"{len(prompts)}")  # fmt: skip
        given = {"temperature": temperature, "top_p": top_p}
        rules = dataclasses.replace(self.rules, **{key: x for key, x in given.items() if x is not None})
        said = [
            Utterance(collapsed(u, self.num_clusters).tolist(), self._prompt(prompt))
            for u, prompt in zip(units, prompts, strict=True)
        ]
        with torch.no_grad(), autocast(self.vocabulary.ids.device, self.precision):
            speak(self.network.stepping(), self.vocabulary, said, seeds=[int(seed) for seed in seeds], rules=rules)
        return said

    def _prompt(self, prompt: tuple[Tensor, Tensor] | None) -> Said:
        if prompt is None:
            return []
        units, codes = (np.asarray(torch.as_tensor(x).cpu()) for x in prompt)
        self.interleave(units, codes)  # refuses what does not fit together
        each, owners = self.interleave.owners(units, len(codes))
        return [(int(unit), codes[owners == place].tolist()) for place, unit in enumerate(each)]


def fit(network: nn.Module, vocabulary: Vocabulary, file: AcousticFile, sizes: Mapping[str, Any]) -> None:
    """Load a file into a network and its map.

    Raises:
        ValueError: sizes, map or tensors that do not fit.
    """
    file.require_sizes(sizes)
    vocabulary.adopt(file.tokens, file.path)
    load_tensors({NETWORK: network}, flatten({NETWORK: file.tensors}), file.path)
