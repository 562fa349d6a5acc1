from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

from modules.kmeans import NearestCentroid


def test_tokens_equal_those_of_scikit_learn() -> None:
    x = np.random.default_rng(0).standard_normal((2000, 16)).astype(np.float32)
    fitted = [MiniBatchKMeans(20, n_init=1, random_state=seed).fit(x) for seed in (0, 1)]
    quantizer = NearestCentroid([torch.from_numpy(f.cluster_centers_) for f in fitted], chunk=77)
    features = torch.from_numpy(x).view(4, 500, 16)
    tokens = quantizer([features, features])
    assert tokens.shape == (4, 500, 2) and tokens.dtype == torch.int64
    for k, model in enumerate(fitted):
        assert np.array_equal(tokens[..., k].flatten().numpy(), model.predict(x))


def test_the_chunk_changes_nothing() -> None:
    torch.manual_seed(0)
    features, centroids = torch.randn(3, 50, 8), torch.randn(11, 8)
    whole, parts = (NearestCentroid([centroids], chunk=chunk)([features]) for chunk in (8192, 7))
    assert torch.equal(whole, parts)


def test_autocast_does_not_change_tokens() -> None:
    torch.manual_seed(0)
    features, quantizer = torch.randn(2, 100, 32), NearestCentroid([torch.randn(50, 32)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = quantizer([features])
    assert torch.equal(mixed, quantizer([features]))


@pytest.mark.parametrize("around", ["tf32", "ieee", "none"])
def test_products_are_compared_with_all_bits_whatever_the_caller_allows(monkeypatch, around: str) -> None:
    """The setting is for CUDA, and can be read without it."""
    found, product, matmul = [], torch.addmm, torch.backends.cuda.matmul

    def addmm(*args, **kwargs):
        found.append(matmul.fp32_precision)
        return product(*args, **kwargs)

    monkeypatch.setattr(torch, "addmm", addmm)
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = around
        NearestCentroid([torch.eye(4)])([torch.zeros(1, 2, 4)])
        assert found == ["ieee"] and matmul.fp32_precision == around
        with pytest.raises(ValueError, match="4 dimensions"):
            NearestCentroid([torch.eye(4)])([torch.zeros(1, 2, 3)])
        assert matmul.fp32_precision == around
    finally:
        matmul.fp32_precision = before


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="of one shape"):
        NearestCentroid([torch.zeros(5, 4), torch.zeros(6, 4)])
    quantizer = NearestCentroid([torch.zeros(5, 4)])
    with pytest.raises(ValueError, match="1 codebooks cannot quantise 2 layers"):
        quantizer([torch.zeros(1, 2, 4)] * 2)
    with pytest.raises(ValueError, match="4 dimensions, the features 3"):
        quantizer([torch.zeros(1, 2, 3)])
