"""The TSELM network: tokens of a mixture and of an enrolment in, logits over the target talker's tokens out."""

from __future__ import annotations

import copy

import torch
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from torch import nn

from modules.cross_attention import CrossAttention
from modules.embedding import TokenEmbedding
from modules.film import FiLM
from modules.memory_order import order_inputs
from modules.pooling import LayerAttention


class TSELM(nn.Module):
    """Cross-attention tells a Conformer whom to follow (arXiv 2409.07841, figure 1).

    Args:
        num_codebooks, vocab_size: K and V.
        embedding_dim: D of embeddings, layer attention and cross-attention.
        fusion_layers, fusion_heads, fusion_ffn: the cross-attention's layers, heads and inner width.
        d_model, num_heads, num_layers, lm_ffn: the Conformer's width, heads, layers and inner width.
        dropout: in the Conformer.
        max_frames: the longest sequence; the Conformer's table of positions ends there.
        mix_continuous: the mixture comes as continuous features [B, N, K, D], not as tokens (TSELM-L-Hybrid).
    """

    def __init__(
        self,
        *,
        num_codebooks: int,
        vocab_size: int,
        embedding_dim: int,
        fusion_layers: int,
        fusion_heads: int,
        fusion_ffn: int,
        d_model: int,
        num_heads: int,
        num_layers: int,
        lm_ffn: int,
        dropout: float = 0.1,
        max_frames: int = 2000,
        mix_continuous: bool = False,
    ):
        super().__init__()
        sizes = dict(num_codebooks=num_codebooks, vocab_size=vocab_size, embedding_dim=embedding_dim, d_model=d_model)
        sizes |= dict(fusion_layers=fusion_layers, fusion_heads=fusion_heads, fusion_ffn=fusion_ffn)
        sizes |= dict(num_heads=num_heads, num_layers=num_layers, lm_ffn=lm_ffn, max_frames=max_frames)
        if wrong := [f"{name} {size}" for name, size in sizes.items() if size < 1]:
            raise ValueError(f"sizes must be above 0, got {', '.join(wrong)}")
        for heads, width in ((fusion_heads, embedding_dim), (num_heads, d_model)):
            if width % heads:
                raise ValueError(f"the number of heads must divide the width, got {heads} heads and width {width}")
        self.num_codebooks = num_codebooks
        self.vocab_size = vocab_size
        self.embedding_dim = embedding_dim
        self.max_frames = max_frames
        self.mix_continuous = mix_continuous
        self.enrolment_embedding = TokenEmbedding(num_codebooks=num_codebooks, vocab_size=vocab_size, dim=embedding_dim)
        self.enrolment_pooling = LayerAttention(dim=embedding_dim, hidden_dim=embedding_dim)
        # Two sets of weights, equal at the start. Continuous features need no table.
        self.mixture_embedding = nn.Identity() if mix_continuous else copy.deepcopy(self.enrolment_embedding)
        self.mixture_pooling = copy.deepcopy(self.enrolment_pooling)
        self.cross_attention = CrossAttention(
            num_layers=fusion_layers, dim=embedding_dim, num_heads=fusion_heads, ffn_dim=fusion_ffn
        )
        self.film = FiLM(dim=embedding_dim)
        self.norm = nn.GroupNorm(1, embedding_dim, eps=1e-8)
        self.lm = TransformerASR(
            input_size=embedding_dim,
            tgt_vocab=-1,
            d_model=d_model,
            nhead=num_heads,
            num_encoder_layers=num_layers,
            num_decoder_layers=0,
            d_ffn=lm_ffn,
            dropout=dropout,
            activation=nn.GELU,  # as published; a Conformer encoder keeps its own Swish all the same
            max_length=max_frames,
            encoder_module="conformer",
            normalize_before=True,
            causal=False,
        )
        order_inputs(self.lm)
        self.head = nn.Linear(d_model, num_codebooks * vocab_size)

    @torch.no_grad()
    def embed_as(self, centroids: torch.Tensor) -> None:
        """Let every token's embedding be its centroid, so that tokens that sound alike are near from the start.

        Args:
            centroids: [K, V, D] of the tokenizer.

        Raises:
            ValueError: they are not of the embeddings' shape.
        """
        wanted = (self.num_codebooks, self.vocab_size, self.embedding_dim)
        if tuple(centroids.shape) != wanted:
            raise ValueError(f"the embeddings are {list(wanted)}, the centroids {list(centroids.shape)}")
        for embedding in (self.enrolment_embedding, self.mixture_embedding):
            if isinstance(embedding, TokenEmbedding):
                embedding.table.weight.copy_(centroids.flatten(0, 1))

    def forward(self, mixture: torch.Tensor, enrolment: torch.Tensor) -> torch.Tensor:
        """Logits of the target's tokens.

        Args:
            mixture: tokens [B, N, K], or features [B, N, K, D] with ``mix_continuous``.
            enrolment: tokens [B, M, K].

        Returns:
            [B, N, K, V].

        Raises:
            ValueError: the mixture has more frames than the position table.
        """
        return self.logits(self.sequence(mixture, enrolment))

    def sequence(self, mixture: torch.Tensor, enrolment: torch.Tensor) -> torch.Tensor:
        """What the logits are made of, [B, N, d_model]; arguments and errors as for ``forward``."""
        if mixture.shape[1] > self.max_frames:
            raise ValueError(f"the position table ends at {self.max_frames} frames, the mixture has {mixture.shape[1]}")
        x = self.mixture_pooling(self.mixture_embedding(mixture))  # [B, N, D]
        e = self.enrolment_pooling(self.enrolment_embedding(enrolment))  # [B, M, D]
        x = self.film(x, self.cross_attention(x, e))
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)  # statistics over channels and time
        x, _ = self.lm(x, None)  # [B, N, d_model]
        return x

    def logits(self, sequence: torch.Tensor) -> torch.Tensor:
        """[B, N, d_model] -> [B, N, K, V]."""
        return self.head(sequence).unflatten(-1, (self.num_codebooks, self.vocab_size))
