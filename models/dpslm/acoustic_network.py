"""The network of ELLA-V: a decoder over one alphabet of special tokens, units and codes."""

from __future__ import annotations

from models.dpslm.vocabulary import SPECIAL
from modules.rotary_decoder import RotaryDecoder


class AcousticNetwork(RotaryDecoder):
    """ids [B, S] -> logits [B, S, V] of V = 4 + K + C.

    Args:
        num_clusters: K.
        num_codes: C.
        d_model, num_layers, num_heads, num_kv_heads, head_dim, d_ffn, rope_theta: see ``RotaryDecoder``.
    """

    def __init__(
        self,
        *,
        num_clusters: int,
        num_codes: int,
        d_model: int = 1024,
        num_layers: int = 12,
        num_heads: int = 16,
        num_kv_heads: int = 16,
        head_dim: int = 64,
        d_ffn: int = 4096,
        rope_theta: float = 10000.0,
    ):
        super().__init__(
            vocab_size=len(SPECIAL) + num_clusters + num_codes, d_model=d_model, num_layers=num_layers,
            num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, d_ffn=d_ffn, rope_theta=rope_theta,
            output_bias=True,
        )  # fmt: skip
