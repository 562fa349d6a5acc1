"""Against transformers' own attention of WavLM, and what must hold of any attention."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from modules.relative_attention import gated_relative_attention, relative_position_bias


@pytest.fixture
def theirs() -> WavLMAttention:
    torch.manual_seed(0)
    attention = WavLMAttention(embed_dim=32, num_heads=4, num_buckets=20, max_distance=50).eval()
    nn.init.normal_(attention.gru_rel_pos_const)
    return attention.requires_grad_(False)


def ours(attention: WavLMAttention, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    bias = relative_position_bias(attention.rel_attn_embed.weight, x.shape[1], max_distance=attention.max_distance)

    def project(y: torch.Tensor) -> torch.Tensor:
        return torch.cat([attention.q_proj(y), attention.k_proj(y), attention.v_proj(y)], dim=-1)

    gate, scale = attention.gru_rel_pos_linear, attention.gru_rel_pos_const
    return attention.out_proj(gated_relative_attention(x, bias, mask, project=project, gate=gate, gate_scale=scale))


@pytest.mark.parametrize("buckets", [20, 320])
@pytest.mark.parametrize("frames", [1, 2, 49, 700])
def test_the_bias_is_that_of_transformers(frames: int, buckets: int) -> None:
    attention = WavLMAttention(embed_dim=32, num_heads=4, num_buckets=buckets, max_distance=800)
    bias = relative_position_bias(attention.rel_attn_embed.weight, frames, max_distance=800)
    assert torch.equal(bias, attention.compute_bias(frames, frames))


def test_the_output_is_that_of_transformers(theirs) -> None:
    x = torch.randn(3, 71, 32)
    torch.testing.assert_close(ours(theirs, x), theirs(x)[0], rtol=0, atol=1e-6)


def test_what_is_masked_is_not_attended_to(theirs) -> None:
    x = torch.randn(2, 30, 32)
    mask = torch.arange(30)[None] < torch.tensor([[30], [17]])
    out = ours(theirs, x, mask)
    torch.testing.assert_close(out[1:, :17], ours(theirs, x[1:, :17]), rtol=0, atol=1e-6)
    torch.testing.assert_close(out[:1], ours(theirs, x[:1]), rtol=0, atol=1e-6)


def test_further_columns_of_the_bias_are_ignored(theirs) -> None:
    """They are there so that its rows begin where CUDA's attention wants them to."""
    x, mask = torch.randn(2, 30, 32), torch.arange(30)[None] < torch.tensor([[30], [17]])
    gate, scale = theirs.gru_rel_pos_linear, theirs.gru_rel_pos_const

    def attended(columns: int) -> torch.Tensor:
        bias = relative_position_bias(theirs.rel_attn_embed.weight, 32, max_distance=50)[:, :30, :columns]
        return gated_relative_attention(
            x, bias, mask, project=lambda y: torch.cat([y, y, y], dim=-1), gate=gate, gate_scale=scale
        )

    assert torch.equal(attended(32), attended(30))
