"""From waveforms to what the network reads. Training and extraction share this path."""

from __future__ import annotations

import torch

from models.interfaces import FeatureTokenizer
from models.tselm.network import TSELM


class FrontEnd:
    """Tokenises a mixture, with its enrolment around it or alone.

    With ``concat_regi`` the encoder hears ``[enrolment, mixture, enrolment]`` as one signal, so that its own attention
    can already compare the talkers, and the frames of the mixture are kept::

        |---- enrolment: R samples ----|-- mixture: T samples --|---- enrolment: R samples ----|
                                       ^ first kept frame: R // hop

    If R is a multiple of the hop, the first kept frame starts where the mixture starts.

    Args:
        tokenizer: the frozen tokenizer.
        concat_regi: put the enrolment before and after the mixture; False is TSELM-L-NoCat.
        mix_continuous: give the mixture's continuous features, not its tokens; True is TSELM-L-Hybrid.
    """

    def __init__(self, *, tokenizer: FeatureTokenizer, concat_regi: bool = True, mix_continuous: bool = False):
        self.tokenizer = tokenizer
        self.grid = tokenizer.grid
        self.concat_regi = concat_regi
        self.mix_continuous = mix_continuous

    @torch.no_grad()
    def encode_mixture(self, mixture: torch.Tensor, enrolment: torch.Tensor) -> torch.Tensor:
        """What the network reads of the mixture.

        Args:
            mixture: [B, T] samples.
            enrolment: [B, R] samples.

        Returns:
            N = grid.frames(T) frames: tokens [B, N, K], or features [B, N, K, D] with ``mix_continuous``.
        """
        if self.concat_regi:
            first, frames = enrolment.shape[-1] // self.grid.hop, self.grid.frames(mixture.shape[-1])
            heard = torch.cat([enrolment, mixture, enrolment], dim=-1)
            again = enrolment.shape[-1] + mixture.shape[-1]
            features = self.tokenizer.features(heard, kept=slice(first, first + frames), repeats_from=again)
        else:
            features = self.tokenizer.features(mixture)
        if self.mix_continuous:
            return torch.stack(features, dim=2)
        return self.tokenizer.quantizer(features)

    def tokens(self, mixture: torch.Tensor) -> torch.Tensor:
        """The mixture's tokens [B, N, K], whichever form ``encode_mixture`` gave it in."""
        return self.tokenizer.quantizer(mixture.unbind(dim=2)) if self.mix_continuous else mixture

    def encode(self, wav: torch.Tensor) -> torch.Tensor:
        """Tokens of the enrolment, or of the clean target: [B, T] -> [B, N, K]."""
        return self.tokenizer.encode(wav)

    def settings(self) -> dict[str, object]:
        """What extraction must share with training, beside the tokenizer's weights."""
        return {
            "concat_regi": self.concat_regi,
            "mix_continuous": self.mix_continuous,
            "codebooks": list(self.tokenizer.codebook_names),
        }


def require_network_fits(network: TSELM, front_end: FrontEnd) -> None:
    """Raise a ValueError if the network was not built for the tokens, or features, that the front end gives."""
    tokenizer = front_end.tokenizer
    ours, theirs = (network.num_codebooks, network.vocab_size), (tokenizer.num_codebooks, tokenizer.vocab_size)
    if ours != theirs:
        raise ValueError(f"the network reads K, V = {ours}, the tokenizer gives {theirs}")
    if network.mix_continuous != front_end.mix_continuous:
        raise ValueError("mix_continuous differs between the network and the front end")
    if network.mix_continuous and network.embedding_dim != tokenizer.dim:
        raise ValueError(
            f"with mix_continuous, embedding_dim must be the encoder's width, got {network.embedding_dim} "
            f"and {tokenizer.dim}"
        )
