"""A pre-norm transformer decoder with rotary positions on neighbouring pairs and grouped keys (arXiv 2310.06825)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GROWTH = 256  # positions that a memory grows by


class RMSNorm(nn.Module):
    """x / sqrt(mean x^2 + eps) in float32, brought back to the precision of x, and scaled: [..., D] -> [..., D]."""

    def __init__(self, dim: int, *, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


class RotaryDecoder(nn.Module):
    """Ids to logits of the next one.

    Args:
        vocab_size: V.
        d_model, d_ffn: channels of a position, and inside the feed-forward layers.
        num_layers: of both kinds.
        num_heads, num_kv_heads: of queries, and of keys and values, each of which serves as many consecutive ones.
        head_dim: channels of a head.
        rope_theta: base of the rotations' wavelengths.
        dropout: on the outputs of attention and feed-forward layers.
        output_bias: of the last layer.

    Raises:
        ValueError: a size is below 1, head_dim is odd, or num_heads is no multiple of num_kv_heads.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        d_model: int = 1024,
        num_layers: int = 12,
        num_heads: int = 16,
        num_kv_heads: int = 16,
        head_dim: int = 64,
        d_ffn: int = 4096,
        rope_theta: float = 10000.0,
        dropout: float = 0.0,
        output_bias: bool = False,
    ):
        super().__init__()
        self.sizes = {
            "d_model": d_model, "num_layers": num_layers, "num_heads": num_heads, "num_kv_heads": num_kv_heads,
            "head_dim": head_dim, "d_ffn": d_ffn, "rope_theta": rope_theta,
        }  # fmt: skip
        if wrong := [f"{name} is {value}" for name, value in self.sizes.items() if not value > 0]:
            raise ValueError(f"sizes must be above 0: {', '.join(wrong)}")
        if head_dim % 2 or num_heads % num_kv_heads:
            raise ValueError(
                f"head_dim must be even and num_heads a multiple of num_kv_heads, got {head_dim}, {num_heads} and "
                f"{num_kv_heads}"
            )
        self.tok_embeddings = nn.Embedding(vocab_size, d_model)
        self.layers = nn.ModuleList(
            _Layer(d_model, num_heads, num_kv_heads, head_dim, d_ffn, dropout) for _ in range(num_layers)
        )
        self.norm = RMSNorm(d_model)
        self.output = nn.Linear(d_model, vocab_size, bias=output_bias)
        self.rope_theta, self.head_dim = rope_theta, head_dim

    def forward(self, ids: Tensor, where: Tensor | None = None) -> Tensor:
        """Logits, float32.

        Args:
            ids: [B, S].
            where: [B, S] bool, the positions whose logits are wanted; None: all.

        Returns:
            [B, S, V], or [positions, V].
        """
        x = self.tok_embeddings(ids)
        rotation = self.rotation(torch.arange(ids.shape[1], device=ids.device))
        for layer in self.layers:
            x = layer(x, rotation)
        return self.output(self.norm(x if where is None else x[where])).float()

    def stepping(self) -> Memory:
        """It, with a memory of what it was fed."""
        return Memory(self)

    def rotation(self, positions: Tensor) -> Tensor:
        """Cosines and sines of positions [...]: [2, ..., head_dim / 2], float32 in every precision."""
        exponents = torch.arange(0, self.head_dim, 2, device=positions.device, dtype=torch.float32) / self.head_dim
        angles = positions.float()[..., None] * self.rope_theta**-exponents
        return torch.stack([angles.cos(), angles.sin()])


class Memory:
    """A decoder that remembers what it was fed: of B sequences of different lengths, each at its own position.

    Args:
        network: it computes in the precision of the context in which it is called.
    """

    def __init__(self, network: RotaryDecoder):
        self._network = network

    @torch.no_grad()
    def begin(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Feed prompts.

        Args:
            ids: [B, S], padded at the right.
            lengths: [B], above 0.

        Returns:
            [B, V] float32, the logits behind the last id of each.
        """
        network, self._longest, self._lengths = self._network, ids.shape[1], lengths
        self._kept: list[tuple[Tensor, Tensor]] = []
        x = network.tok_embeddings(ids)
        rotation = network.rotation(torch.arange(ids.shape[1], device=ids.device))
        for layer in network.layers:
            x = layer(x, rotation, self._kept)
        last = x[torch.arange(len(ids), device=ids.device), lengths - 1]
        return network.output(network.norm(last)).float()

    @torch.no_grad()
    def step(self, ids: Tensor) -> Tensor:
        """Feed one id more of each sequence, [B] -> its logits [B, V], float32."""
        network = self._network
        self._make_room()
        rotation = network.rotation(self._lengths[:, None, None])
        is_past = (torch.arange(self._longest + 1, device=ids.device) <= self._lengths[:, None])[:, None, None]
        rows = torch.arange(len(ids), device=ids.device)
        x = network.tok_embeddings(ids)
        for layer, (keys, values) in zip(network.layers, self._kept, strict=True):
            normed = layer.attention_norm(x)[:, None]
            key, value = layer.attention.keys_and_values(normed, rotation)
            keys[rows, :, self._lengths] = key[:, :, 0]
            values[rows, :, self._lengths] = value[:, :, 0]
            seen = keys[:, :, : self._longest + 1], values[:, :, : self._longest + 1]
            x = x + layer.attention.of_one(normed, rotation, *seen, is_past)
            x = x + layer.feed_forward(layer.ffn_norm(x))
        self._lengths = self._lengths + 1
        self._longest += 1
        return network.output(network.norm(x)).float()

    def keep(self, rows: Tensor) -> None:
        """Go on with these sequences alone."""
        self._kept = [(keys[rows], values[rows]) for keys, values in self._kept]
        self._lengths = self._lengths[rows]

    def _make_room(self) -> None:
        if self._kept[0][0].shape[2] <= self._longest:
            self._kept = [tuple(F.pad(x, (0, 0, 0, _GROWTH)) for x in pair) for pair in self._kept]


class _Attention(nn.Module):
    def __init__(self, d_model: int, num_heads: int, num_kv_heads: int, head_dim: int):
        super().__init__()
        self.wq = nn.Linear(d_model, num_heads * head_dim, bias=False)
        self.wk = nn.Linear(d_model, num_kv_heads * head_dim, bias=False)
        self.wv = nn.Linear(d_model, num_kv_heads * head_dim, bias=False)
        self.wo = nn.Linear(num_heads * head_dim, d_model, bias=False)
        self.head_dim, self.num_kv_heads = head_dim, num_kv_heads
        self.served = num_heads // num_kv_heads  # queries of a key

    def forward(self, x: Tensor, rotation: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[B, S, D] -> [B, S, D], with its own keys and values; a position attends to those before it and to itself."""
        queries = rotated(_heads(self.wq(x), self.head_dim), rotation)
        if self.served > 1:
            keys, values = (y.repeat_interleave(self.served, dim=1) for y in (keys, values))
        y = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.wo(y.transpose(1, 2).flatten(2))

    def keys_and_values(self, x: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, D] -> twice [B, kv, S, head_dim]."""
        return rotated(_heads(self.wk(x), self.head_dim), rotation), _heads(self.wv(x), self.head_dim)

    def of_one(self, x: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, is_past: Tensor) -> Tensor:
        """[B, 1, D] -> [B, D], from keys and values [B, kv, S, head_dim] where ``is_past`` [B, 1, 1, S]."""
        queries = rotated(_heads(self.wq(x), self.head_dim), rotation)  # [B, heads, 1, head_dim]
        queries = queries.view(len(x), self.num_kv_heads, self.served, self.head_dim)
        y = F.scaled_dot_product_attention(queries, keys, values, attn_mask=is_past)
        return self.wo(y.flatten(1))


class _FeedForward(nn.Module):
    def __init__(self, d_model: int, d_ffn: int):
        super().__init__()
        self.w1 = nn.Linear(d_model, d_ffn, bias=False)
        self.w2 = nn.Linear(d_ffn, d_model, bias=False)
        self.w3 = nn.Linear(d_model, d_ffn, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class _Layer(nn.Module):
    def __init__(self, d_model: int, num_heads: int, num_kv_heads: int, head_dim: int, d_ffn: int, dropout: float):
        super().__init__()
        self.attention = _Attention(d_model, num_heads, num_kv_heads, head_dim)
        self.feed_forward = _FeedForward(d_model, d_ffn)
        self.attention_norm = RMSNorm(d_model)
        self.ffn_norm = RMSNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotation: Tensor, kept: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """[B, S, D] -> [B, S, D]; keys and values are put behind those in ``kept``, where there is such a list."""
        normed = self.attention_norm(x)
        keys, values = self.attention.keys_and_values(normed, rotation)
        if kept is not None:
            kept.append((keys, values))
        x = x + self.dropout(self.attention(normed, rotation, keys, values))
        return x + self.dropout(self.feed_forward(self.ffn_norm(x)))


def rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """x [B, heads, S, head_dim], each pair of neighbouring channels turned by its angle; computed in float32."""
    cos, sin = rotation
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


def _heads(x: Tensor, head_dim: int) -> Tensor:
    """[B, S, heads * head_dim] -> [B, heads, S, head_dim]."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)
