"""The F0 quantiser by itself, for use from Python."""

from __future__ import annotations

import os

import torch

from models.resynthesis.files import load_quantiser
from models.resynthesis.network import F0_HOP, SAMPLE_RATE, ContourCodec
from modules.frozen import Frozen


class ContourModel(Frozen):
    """The F0 quantiser of a checkpoint.

    Args:
        quantizer: what its recipe trains.
    """

    checkpoint = "needed"
    sample_rate = SAMPLE_RATE
    num_codebooks = 1

    def __init__(self, *, quantizer: ContourCodec):
        super().__init__()
        self.quantizer = quantizer
        self.hop_length = quantizer.stride * F0_HOP
        self.vocab_size = quantizer.codes
        self.freeze()

    def load_checkpoint(self, path: str | os.PathLike) -> None:
        load_quantiser(self.quantizer, path)

    @torch.no_grad()
    def encode(self, contour: torch.Tensor) -> torch.Tensor:
        """Contours [B, M], normalised -> codes [B, M // 16, 1] int64."""
        return self.quantizer.encode(contour.float().to(next(self.quantizer.parameters()).device))[..., None]

    @torch.no_grad()
    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Codes [B, L, 1] -> contours [B, 16 L], normalised."""
        return self.quantizer.decode(tokens[..., 0].to(next(self.quantizer.parameters()).device))
