"""The codec's network: encoder, residual quantiser, decoder, and the first codebook's way to the teacher."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from models.speechtokenizer.architecture import Architecture
from modules.residual_quantizer import ResidualQuantizer
from modules.seanet import SEANetDecoder, SEANetEncoder


class Coded(NamedTuple):
    """What a batch becomes on its way through the codec.

    Attributes:
        wav: [B, hop * N] float32.
        tokens: [B, N, K] int64.
        semantic: [B, N, S], what the first codebook says of each frame.
        commitment: a scalar, see ``modules.residual_quantizer``.
    """

    wav: torch.Tensor
    tokens: torch.Tensor
    semantic: torch.Tensor
    commitment: torch.Tensor


class CodecNetwork(nn.Module):
    """wav [B, T] -> latents [B, N, D] -> tokens [B, N, K] -> wav [B, hop * N], N = ceil(T / hop).

    Args:
        architecture: all sizes.
        codebook_decay, dead_code_share: how the codebooks learn, see ``ResidualQuantizer``.
    """

    def __init__(self, *, architecture: Architecture, codebook_decay: float = 0.99, dead_code_share: float = 0.1):
        super().__init__()
        self.architecture = sizes = architecture
        common = {
            "filters": sizes.n_filters,
            "dim": sizes.dimension,
            "residual_layers": sizes.n_residual_layers,
            "residual_kernel": sizes.residual_kernel_size,
            "dilation_base": sizes.dilation_base,
            "lstm_layers": sizes.lstm_layers,
            "activation": sizes.activation,
        }
        self.encoder = SEANetEncoder(strides=sizes.strides[::-1], bidirectional=sizes.bidirectional, **common)
        self.quantizer = ResidualQuantizer(
            num_codebooks=sizes.n_q,
            vocab_size=sizes.codebook_size,
            dim=sizes.dimension,
            decay=codebook_decay,
            dead_code_share=dead_code_share,
        )
        is_same = sizes.dimension == sizes.semantic_dimension
        self.transform = nn.Identity() if is_same else nn.Linear(sizes.dimension, sizes.semantic_dimension)
        self.decoder = SEANetDecoder(strides=sizes.strides, **common)

    def encode(self, wav: torch.Tensor) -> torch.Tensor:
        """wav [B, T] -> latents [B, N, D]."""
        return self.encoder(wav[:, None]).transpose(1, 2)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Quantised latents [B, N, D] -> wav [B, hop * N]."""
        return self.decoder(latents.transpose(1, 2)).squeeze(1)

    def forward(self, wav: torch.Tensor, places: torch.Tensor | None = None) -> Coded:
        """wav [B, T] through the whole codec; ``places`` [B] as for ``ResidualQuantizer``."""
        quantised = self.quantizer(self.encode(wav), places)
        return Coded(
            wav=self.decode(quantised.sum).float(),
            tokens=quantised.tokens,
            semantic=self.transform(quantised.first),
            commitment=quantised.commitment,
        )
