"""The plain way from public parts: every hidden state, scikit-learn on the CPU, one piece at a time, nothing shared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import WavLMModel

from models.kmeans.files import read_kmeans


class PlainTokenizer:
    """All hidden states of transformers' WavLM in fp32, stacked, and scikit-learn's ``predict`` for each layer.

    Args:
        wavlm, kmeans: folders.
        layers: that are quantised.
        device: of the WavLM.
    """

    def __init__(self, wavlm: Path, kmeans: Path, layers: Sequence[int], device: torch.device):
        from sklearn.cluster import KMeans  # its import draws from Python's random numbers

        self.layers, self.device = layers, device
        self.model = WavLMModel.from_pretrained(wavlm).eval().requires_grad_(False).to(device)
        self.quantizers = []
        for centres in read_kmeans(kmeans, layers=layers):
            fitted = KMeans(n_clusters=len(centres), n_init=1, max_iter=1)
            fitted.fit(centres.double().numpy())
            fitted.cluster_centers_ = centres.float().numpy()
            self.quantizers.append(fitted)

    @torch.no_grad()
    def __call__(self, wav: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, N, K]."""
        wav = F.layer_norm(wav.to(self.device), wav.shape[-1:])
        hidden = self.model(wav, output_hidden_states=True).hidden_states
        chosen = torch.stack([hidden[layer] for layer in self.layers]).cpu()  # [K, B, N, D]
        tokens = [
            torch.from_numpy(quantizer.predict(x.flatten(0, 1).numpy())).long().view(x.shape[:-1])
            for quantizer, x in zip(self.quantizers, chosen, strict=True)
        ]
        return torch.stack(tokens, dim=-1).to(self.device)

    def mixture(self, mixture: torch.Tensor, enrolment: torch.Tensor) -> torch.Tensor:
        """Tokens of the mixture, heard between two enrolments."""
        first, frames = enrolment.shape[-1] // 320, (mixture.shape[-1] - 80) // 320
        return self(torch.cat([enrolment, mixture, enrolment], dim=-1))[:, first : first + frames]


@torch.no_grad()
def extract(
    tokenizer: PlainTokenizer,
    network: torch.nn.Module,
    vocoder: torch.nn.Module,
    mixture: torch.Tensor,
    enrolment: torch.Tensor,
    *,
    mix_length: int,
) -> torch.Tensor:
    """Published chunking: one piece after the other, and with each the enrolment anew. [1, T], [1, R] -> [1, T']."""
    samples = mixture.shape[-1]
    pieces = F.pad(mixture, (0, -samples % mix_length)).split(mix_length, dim=-1)
    out = []
    for piece in pieces:
        logits = network(tokenizer.mixture(piece, enrolment), tokenizer(enrolment))
        out.append(vocoder.decode(logits.argmax(dim=-1)))
    return torch.cat(out, dim=-1)[:, :samples]
