from __future__ import annotations

import pytest
import torch
from torch import nn

from modules.frozen_linear import FrozenLinear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_it_is_the_ordinary_product(dtype: torch.dtype, gelu: bool, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 80, bias=bias, dtype=dtype).requires_grad_(False)
    product = FrozenLinear(lambda: (layer.weight, layer.bias), gelu=gelu)
    x = torch.randn(2, 33, 48, dtype=dtype)
    want = nn.functional.gelu(layer(x)) if gelu else layer(x)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float64: 1e-12}[dtype]
    for _ in range(2):  # the second time with what was packed
        found = product(x)
        assert found.dtype == dtype
        torch.testing.assert_close(found, want, rtol=0, atol=tolerance)


def test_it_follows_autocast() -> None:
    layer = nn.Linear(16, 16).requires_grad_(False)
    product = FrozenLinear(lambda: (layer.weight, layer.bias))
    x = torch.randn(5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = product(x)
        torch.testing.assert_close(low, layer(x), rtol=0, atol=1e-2)
    assert low.dtype == torch.bfloat16 and product(x).dtype == torch.float32


def test_what_is_not_contiguous_is_taken_as_it_is_seen() -> None:
    layer = nn.Linear(16, 8).requires_grad_(False)
    x = torch.randn(16, 7, 3).permute(2, 1, 0)
    found = FrozenLinear(lambda: (layer.weight, layer.bias))(x)
    torch.testing.assert_close(found, layer(x), rtol=0, atol=1e-5)
