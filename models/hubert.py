"""Chosen hidden layers of a pretrained HuBERT, through transformers, and whichever encoder a folder holds."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import HubertConfig, HubertModel

from models.wavlm import ALL, WavLM, distinct_layers, frame_grid, load_transformer, unit_variance
from modules.frozen import Frozen


class HuBERT(Frozen):
    """Hidden states of some layers of a frozen HuBERT (Hsu et al., arXiv 2106.07447), with WavLM's interface.

    Args:
        source, layers, normalize: as for ``models.wavlm.WavLM``; the base models expect speech as it is.

    Raises:
        FileNotFoundError, ValueError: as there.
    """

    sample_rate = 16000

    def __init__(self, source: str | os.PathLike, *, layers: Sequence[int], normalize: bool = False):
        super().__init__()
        self.layers = distinct_layers(layers)
        self.normalize = normalize
        self.model, total = load_transformer(
            source, highest=max(self.layers), kind="HuBERT", config_class=HubertConfig, model_class=HubertModel
        )
        config = self.model.config
        self.dim: int = config.hidden_size
        self.grid = frame_grid(config)
        self.hop_length = self.grid.hop
        self._has_final_norm = config.do_stable_layer_norm and max(self.layers) == total
        self.freeze()

    @torch.no_grad()
    def forward(
        self,
        wav: torch.Tensor,
        lengths: torch.Tensor | None = None,
        *,
        kept: slice = ALL,
        repeats_from: int | None = None,
    ) -> list[torch.Tensor]:
        """[B, T] at 16 kHz -> one [B, N, D] a layer; arguments as for ``models.wavlm.WavLM``.

        Rows of several lengths are computed one by one: a base model's group norm mixes padding into every frame.

        Raises:
            ValueError: a row is shorter than one frame.
        """
        shortest = wav.shape[-1] if lengths is None else int(lengths.min())
        if shortest < self.grid.window:
            raise ValueError(f"HuBERT needs at least {self.grid.window} samples, got {shortest}")
        if lengths is None or bool((lengths == wav.shape[-1]).all()):
            return [x[:, kept] for x in self._states(wav)]
        rows = [self._states(row[None, : int(n)]) for row, n in zip(wav, lengths, strict=True)]
        frames = int(self.grid.frames(wav.shape[-1]))
        found = []
        for states in zip(*rows, strict=True):
            padded = wav.new_zeros(len(states), frames, self.dim, dtype=states[0].dtype)
            for row, state in zip(padded, states, strict=True):
                row[: state.shape[1]] = state[0]
            found.append(padded[:, kept])
        return found

    def _states(self, wav: torch.Tensor) -> list[torch.Tensor]:
        model, encoder = self.model, self.model.encoder
        wav = unit_variance(wav, None) if self.normalize else wav
        x = model.feature_projection(model.feature_extractor(wav).transpose(1, 2))
        x = x[0] if isinstance(x, tuple) else x
        x = x + encoder.pos_conv_embed(x)
        if not model.config.do_stable_layer_norm:
            x = encoder.layer_norm(x)
        states = {0: x}
        for index, layer in enumerate(encoder.layers, 1):
            x = layer(x)
            x = x[0] if isinstance(x, tuple) else x
            states[index] = x
        if self._has_final_norm:
            states[max(self.layers)] = encoder.layer_norm(x)
        return [states[layer] for layer in self.layers]


def load_encoder(source: str | os.PathLike, *, layers: Sequence[int], normalize: bool) -> WavLM | HuBERT:
    """The encoder that a Hugging Face folder holds, as its config.json says: ``wavlm`` or ``hubert``.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds neither.
    """
    path = Path(source) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no such folder with a config.json: {source}")
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    made = {"wavlm": WavLM, "hubert": HuBERT}.get(kind)
    if made is None:
        raise ValueError(f"{source} holds a model of type {kind!r}; hubert and wavlm are read")
    return made(source, layers=layers, normalize=normalize)
