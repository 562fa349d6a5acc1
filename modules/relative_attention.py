"""Self-attention with a gated relative position bias (WavLM, arXiv 2110.13900, section III-B)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F


def relative_position_bias(table: torch.Tensor, frames: int, *, max_distance: int) -> torch.Tensor:
    """A learned bias for each head and each distance of key and query.

    Half of the buckets is for keys that come later. Of each half, half has one bucket a distance, and the other half
    shares the distances up to ``max_distance``, and all beyond, by their logarithm.

    Args:
        table: [buckets, H].
        frames: N.
        max_distance: in frames.

    Returns:
        [H, N, N]; entry (h, i, j) is the bias of key j for query i.
    """
    each_way = len(table) // 2
    exact = each_way // 2
    distances = torch.arange(1 - frames, frames, device=table.device)  # key less query
    size = distances.abs()
    # In these very steps, in single precision: a distance on the border of two buckets must fall on its side.
    far = torch.log(size.float() / exact) / math.log(max_distance / exact) * (each_way - exact)
    far = (exact + far).long().clamp(max=each_way - 1)
    buckets = torch.where(size < exact, size, far) + (distances > 0) * each_way
    # Row i is the window of all distances that begins N - 1 - i from their start.
    return table[buckets].T.unfold(1, frames, 1).flip(1)


def gated_relative_attention(
    x: torch.Tensor,
    bias: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    project: Callable[[torch.Tensor], torch.Tensor],
    gate: Callable[[torch.Tensor], torch.Tensor],
    gate_scale: torch.Tensor,
    queries: slice = slice(None),
) -> torch.Tensor:
    """Multi-head self-attention whose position bias every query scales by a gate of its own.

    Args:
        x: [B, N, D].
        bias: [H, N, N], in the precision of the attention. It may have more columns, which are ignored: where rows
            begin at multiples of 8 elements, CUDA's attention reads them as they are, and else copies all of them.
        mask: [B, N] bool, True where a frame may be attended to; None: everywhere.
        project: D -> 3 D: query, key and value.
        gate: D / H -> 8, whose outputs are added up to two gates.
        gate_scale: [1, H, 1, 1].
        queries: the frames that attend, to all.

    Returns:
        [B, queries, D], before the output projection.
    """

    def heads(y: torch.Tensor) -> torch.Tensor:  # [B, N, D] -> [B, H, N, D / H]
        return y.unflatten(-1, (len(bias), -1)).transpose(1, 2)

    first, second = gate(heads(x[:, queries])).unflatten(-1, (2, 4)).sum(-1).sigmoid().unbind(-1)  # [B, H, N] each
    strength = first * (second * gate_scale[..., 0] - 1) + 2
    biases = (strength[..., None].to(bias.dtype) * bias[:, queries])[..., : x.shape[1]]  # [B, H, queries, N]
    if mask is not None:
        biases.masked_fill_(~mask[:, None, None, :], float("-inf"))  # in place, so that its rows stay where they are
    query, key, value = map(heads, project(x).chunk(3, dim=-1))
    attended = F.scaled_dot_product_attention(query[:, :, queries], key, value, attn_mask=biases.to(query.dtype))
    return attended.transpose(1, 2).flatten(2)
