"""The published way of training with a frozen encoder that is not: to measure what it costs.

The published trainer puts its whole model into train mode, and so wakes the dropout, the layer drop and the
SpecAugment of the pretrained encoder: tokens, those to be predicted among them, become random.
"""

from __future__ import annotations

import os

import torch
from transformers import WavLMModel

from models.ssl_tokenizer import SSLTokenizer
from models.wavlm import quiet_transformers, unit_variance
from modules.frames import length_mask


class AwakeTokenizer(SSLTokenizer):
    """A tokenizer whose encoder obeys ``train()``: random while its owner trains, itself in validation.

    Args:
        source: the encoder's folder, which transformers' own model is read from for the time of training.
        dropout: of hidden states and attention, as WavLM-Large's configuration has it.
        layer_drop: probability that a layer is left out, likewise.
        mask: share of frames where masked spans begin times their length, likewise (``mask_time_prob``).
        parts: those of ``SSLTokenizer``.
    """

    def __init__(
        self,
        *,
        source: str | os.PathLike,
        dropout: float = 0.1,
        layer_drop: float = 0.1,
        mask: float = 0.075,
        **parts: object,
    ):
        super().__init__(**parts)
        chances = dict(hidden_dropout=dropout, attention_dropout=dropout, activation_dropout=0.0, feat_proj_dropout=0.0)
        with quiet_transformers():
            self.awake = WavLMModel.from_pretrained(
                source,
                dtype=torch.float32,
                **chances,
                layerdrop=layer_drop,
                mask_time_prob=mask,
                apply_spec_augment=True,
            )
        self.awake.requires_grad_(False)
        self.is_awake = False

    def train(self, mode: bool = True) -> AwakeTokenizer:
        super().train(False)
        self.is_awake = mode
        if hasattr(self, "awake"):  # not yet while it is being built
            self.awake.train(mode)
        return self

    @torch.no_grad()
    def features(self, wav: torch.Tensor, lengths: torch.Tensor | None = None, *, kept: slice = slice(None), **hints):
        if not self.is_awake:
            return super().features(wav, lengths, kept=kept, **hints)
        own = None if lengths is None else length_mask(lengths, wav.shape[-1])
        states = self._hidden_states(unit_variance(wav.float(), own))
        return [states[layer][:, kept].float() for layer in self.encoder.layers]

    def _hidden_states(self, wav: torch.Tensor) -> list[torch.Tensor]:
        """As transformers' own, where a layer that is dropped gives its input."""
        model, encoder = self.awake, self.awake.encoder
        x, _ = model.feature_projection(model.feature_extractor(wav).transpose(1, 2))
        x = model._mask_hidden_states(x)
        x = encoder.dropout(x + encoder.pos_conv_embed(x))
        states, bias = [x], None
        for index, layer in enumerate(encoder.layers):
            if index == 0 or float(torch.rand(())) >= model.config.layerdrop:  # the first makes the bias of positions
                x, bias = layer(x, position_bias=bias)
            states.append(x)
        states[-1] = encoder.layer_norm(x)
        return states
