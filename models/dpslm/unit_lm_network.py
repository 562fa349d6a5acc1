"""The network of the unit language model: a decoder over units and BOS (arXiv 2505.23494)."""

from __future__ import annotations

from modules.rotary_decoder import RotaryDecoder

BOS = 0  # unit u is id u + 1


class UnitNetwork(RotaryDecoder):
    """ids [B, S] -> logits [B, S, K + 1].

    Args:
        num_clusters: K.
        dropout: on the outputs of attention and feed-forward layers, in training.
        d_model, num_layers, num_heads, num_kv_heads, head_dim, d_ffn, rope_theta: see ``RotaryDecoder``.
    """

    def __init__(
        self,
        *,
        num_clusters: int,
        dropout: float = 0.15,
        d_model: int = 1024,
        num_layers: int = 12,
        num_heads: int = 16,
        num_kv_heads: int = 16,
        head_dim: int = 64,
        d_ffn: int = 4096,
        rope_theta: float = 10000.0,
    ):
        if num_clusters < 1 or not 0 <= dropout < 1:
            raise ValueError(f"num_clusters must be above 0 and dropout in [0, 1), got {num_clusters} and {dropout}")
        super().__init__(
            vocab_size=num_clusters + 1, d_model=d_model, num_layers=num_layers, num_heads=num_heads,
            num_kv_heads=num_kv_heads, head_dim=head_dim, d_ffn=d_ffn, rope_theta=rope_theta, dropout=dropout,
        )  # fmt: skip
        self.dropout = dropout
        self.sizes = {**self.sizes, "num_clusters": num_clusters}
