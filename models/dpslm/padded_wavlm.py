"""WavLM between zeros, so that every hop of a signal has a frame."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.wavlm import WavLM
from modules.frames import FrameGrid
from modules.frozen import Frozen


class PaddedWavLM(Frozen):
    """Layers of WavLM, T // 320 frames of T samples: (400 - 320) / 2 zeros are put before and behind a signal.

    Args:
        source, layers, normalize: see ``models.wavlm.WavLM``; also the last layer has no final norm.
    """

    def __init__(self, source: str | os.PathLike, *, layers: Sequence[int], normalize: bool = False):
        super().__init__()
        self.wavlm = WavLM(source, layers=layers, normalize=normalize, final_norm=False)
        self.layers = self.wavlm.layers
        self.dim = self.wavlm.dim
        self.sample_rate = self.wavlm.sample_rate
        self.hop_length = self.wavlm.grid.hop
        self.grid = FrameGrid(window=self.hop_length, hop=self.hop_length)
        self.around = self.wavlm.grid.overlap // 2
        self.freeze()

    @torch.no_grad()
    def forward(self, wav: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
        """wav [B, T], lengths [B] in samples -> one [B, T // 320, D] a layer; without meaning beyond a row's frames.

        Raises:
            ValueError: a row is shorter than a frame.
        """
        wav = F.pad(wav, (self.around, self.around))
        if lengths is not None:
            ends = lengths.to(wav.device)[:, None] + self.around
            wav = wav.masked_fill(torch.arange(wav.shape[1], device=wav.device) >= ends, 0)
            lengths = lengths + 2 * self.around
        return self.wavlm(wav, lengths)
