"""A WavLM that guesses the units of frames that it does not hear."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import WavLMConfig, WavLMModel

from models.wavlm import frame_grid, unit_variance
from modules.frames import length_mask


class MaskedUnitPredictor(nn.Module):
    """A WavLM with HuBERT's prediction head (arXiv 2106.07447, equation 3).

    Args:
        encoder: sizes of the WavLM (``transformers.WavLMConfig``).
        vocab_size: V, the units to choose from.
        head_dim: of the space in which outputs and units are compared.
        temperature: that the cosine similarities are divided by.

    Raises:
        ValueError: the encoder drops whole layers at random, or does not hide frames.
    """

    def __init__(self, *, encoder: WavLMConfig, vocab_size: int, head_dim: int = 256, temperature: float = 0.1):
        super().__init__()
        masks = getattr(encoder, "apply_spec_augment", True)  # without it the model hears what it is told to hide
        if encoder.layerdrop or encoder.mask_feature_prob or not encoder.mask_time_prob or not masks:
            raise ValueError(
                "the encoder's layerdrop and mask_feature_prob must be 0, mask_time_prob above it, and "
                f"apply_spec_augment True, got {encoder.layerdrop}, {encoder.mask_feature_prob}, "
                f"{encoder.mask_time_prob} and {masks}"
            )
        self.vocab_size = vocab_size
        self.temperature = temperature
        self.grid = frame_grid(encoder)
        self.encoder = WavLMModel(encoder)
        self.projection = nn.Linear(encoder.hidden_size, head_dim)
        self.units = nn.Parameter(torch.randn(vocab_size, head_dim))

    def forward(self, wav: torch.Tensor, lengths: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of the units of all frames.

        Args:
            wav: [B, T] at 16 kHz.
            lengths: [B] samples of each row. What follows is heard as silence, as at the end of a padded mixture.
            hidden: [B, N] bool, frames that the transformer does not hear.

        Returns:
            [B, N, V] float32.
        """
        wav = unit_variance(wav, length_mask(lengths, wav.shape[-1]))
        x = self.encoder(wav, mask_time_indices=hidden)
        x = F.normalize(self.projection(x.last_hidden_state).float(), dim=-1)
        return x @ F.normalize(self.units.float(), dim=-1).T / self.temperature
