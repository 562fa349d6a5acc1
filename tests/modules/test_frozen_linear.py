from __future__ import annotations

import copy
import pickle

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
    product = FrozenLinear(layer, gelu=gelu)
    x = torch.randn(2, 33, 48, dtype=dtype)
    want = nn.functional.gelu(layer(x)) if gelu else layer(x)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float64: 1e-12}[dtype]
    for _ in range(2):  # the second time with what was packed
        found = product(x)
        assert found.dtype == dtype
        torch.testing.assert_close(found, want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("bias", [True, False])
def test_several_layers_are_one(bias: bool) -> None:
    layers = [nn.Linear(16, size, bias=bias).requires_grad_(False) for size in (8, 24, 8)]
    x = torch.randn(2, 5, 16)
    want = torch.cat([layer(x) for layer in layers], dim=-1)
    torch.testing.assert_close(FrozenLinear(*layers)(x), want, rtol=0, atol=1e-5)


def test_a_convolution_is_a_product_with_windows() -> None:
    conv = nn.Conv1d(6, 10, kernel_size=3, stride=2).requires_grad_(False)
    x = torch.randn(2, 21, 6)  # channels last
    windows = x.unfold(1, 3, 2).transpose(2, 3).flatten(2)
    want = conv(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(FrozenLinear(conv)(windows), want, rtol=0, atol=1e-5)


def test_it_follows_autocast() -> None:
    layer = nn.Linear(16, 16).requires_grad_(False)
    product = FrozenLinear(layer)
    x = torch.randn(5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = product(x)
        torch.testing.assert_close(low, layer(x), rtol=0, atol=1e-2)
    assert low.dtype == torch.bfloat16 and product(x).dtype == torch.float32


def test_what_is_not_contiguous_is_taken_as_it_is_seen() -> None:
    layer = nn.Linear(16, 8).requires_grad_(False)
    x = torch.randn(16, 7, 3).permute(2, 1, 0)
    torch.testing.assert_close(FrozenLinear(layer)(x), layer(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_has_the_weights_of_its_own_layers(duplicate) -> None:
    """With closures, a copied model went on computing with the weights of the first."""

    owner = nn.Module()
    owner.layer = nn.Linear(4, 4).requires_grad_(False)
    owner.product = FrozenLinear(owner.layer)
    x = torch.randn(3, 4)
    before = owner.product(x)
    other = duplicate(owner)
    other.layer.weight.zero_(), other.layer.bias.fill_(7)
    assert bool((other.product(x) == 7).all()) and torch.equal(owner.product(x), before)
