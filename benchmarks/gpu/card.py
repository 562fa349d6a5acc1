"""What the card can do at best, and its attention alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import measure
from benchmarks.gpu.bench import GPU_ONLY, Bench
from benchmarks.measure import Row, matmul_peak, once
from utils.precision import DTYPES, float32_products


def peaks(bench: Bench) -> None:
    found = {}
    for precision in bench.precisions:
        with float32_products(precision):
            found[precision] = matmul_peak(bench.device, DTYPES[precision])
    bench.tell(peaks={**found, "bandwidth": measure.bandwidth(bench.device)})


def attention(bench: Bench) -> None:
    """Kernels of attention with a bias for each query and key, at WavLM's sizes: why the tokenizer takes what it does.

    The plain one is torch's own choice for a bias whose rows begin anywhere.
    """
    if not bench.is_cuda:
        bench.found("attention", "kernels of attention with a bias", GPU_ONLY)
        return
    batch, heads, frames, width = 32, 16, 549, 64
    query, key, value = torch.randn(3, batch, heads, frames, width, device=bench.device, dtype=torch.bfloat16)
    padded = torch.randn(batch, heads, frames, -(-frames // 8) * 8, device=bench.device, dtype=torch.bfloat16)
    aligned, anyhow = padded[..., :frames], padded[..., :frames].contiguous()
    operations = 4.0 * batch * heads * frames * frames * width

    def fused(mask: torch.Tensor | None, *kinds: SDPBackend) -> torch.Tensor:
        with sdpa_kernel(list(kinds)) if kinds else sdpa_kernel(list(SDPBackend.__members__.values())[1:]):
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    def plain() -> torch.Tensor:
        return fused(anyhow, SDPBackend.EFFICIENT_ATTENTION)

    ways = {
        "memory-efficient, rows of the bias aligned": lambda: fused(aligned, SDPBackend.EFFICIENT_ATTENTION),
        "cuDNN, rows of the bias aligned": lambda: fused(aligned, SDPBackend.CUDNN_ATTENTION),
        "flash, without the bias": lambda: fused(None, SDPBackend.FLASH_ATTENTION),
        "FlexAttention, bias made inside": flex(query, key, value),
    }
    reference = plain().float()
    for name, way in ways.items():
        work = f"attention {batch} x {heads} x {frames} frames, bf16: {name}"
        with bench.apart("attention", work):
            compiling = once(way, device=bench.device)
            seconds = bench.side_by_side(plain, way)
            compares = "aligned" in name
            off = f"; off by {(way().float() - reference).abs().max():.1e}" if compares else ""
            note = f"first call {compiling:.1f} s{off}"
            bench.speed("attention", Row(work, *seconds, operations, note=note, precision="bf16"))


def flex(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor):
    """A bias of the distance, scaled by a gate of each query, that is never written to memory."""
    from torch.nn.attention.flex_attention import flex_attention

    batch, heads, frames, _ = query.shape
    table = torch.randn(heads, 2 * frames - 1, device=query.device, dtype=query.dtype)
    gates = torch.rand(batch, heads, frames, device=query.device, dtype=query.dtype)

    def biased(score, b, h, q, k):
        return score + gates[b, h, q] * table[h, k - q + frames - 1]

    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda: compiled(query, key, value, score_mod=biased)
