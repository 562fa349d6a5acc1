"""What fitted codebooks are exported as."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.cluster import MiniBatchKMeans

from models.kmeans.task import LayerKMeans
from models.released import read_kmeans, write_kmeans
from modules.kmeans import NearestCentroid
from tests.kmeans import batch_of, task


@pytest.fixture
def fitted() -> LayerKMeans:
    torch.manual_seed(0)
    found = task()
    found.prepare(iter([batch_of(160, 160, 160)]))
    return found


def test_what_is_exported_is_what_was_fitted(fitted, tmp_path) -> None:
    assert fitted.export(tmp_path) == [tmp_path / "kmeans.safetensors"]
    assert load_file(tmp_path / "kmeans.safetensors")["layer_1"].dtype == torch.float32
    for found, centres in zip(read_kmeans(tmp_path, [1, 2]), fitted.codebooks.centres, strict=True):
        assert torch.equal(found, centres)


def test_the_released_layout_is_read_by_us_and_by_scikit_learn(fitted, tmp_path) -> None:
    fitted.export_format = "released"
    paths = fitted.export(tmp_path)
    assert [path.name for path in paths] == ["LibriSpeech_wavlm_k5_L1.pt", "LibriSpeech_wavlm_k5_L2.pt"]
    assert sorted(tmp_path.iterdir()) == paths
    ours, frames = read_kmeans(tmp_path, [1, 2]), torch.randn(100, 16)
    for path, found, centres in zip(paths, ours, fitted.codebooks.centres, strict=True):
        assert torch.equal(found, centres)
        model = joblib.load(path)
        assert type(model) is MiniBatchKMeans and model.cluster_centers_.dtype == np.float64
        tokens = NearestCentroid([found])([frames[None]])[0, :, 0]
        assert np.array_equal(model.predict(frames.double().numpy()), tokens.numpy())
        assert model.transform(frames.double().numpy()).shape == (100, 5)
    write_kmeans(tmp_path, {1: torch.zeros(5, 16)})
    with pytest.raises(ValueError, match="kmeans.safetensors, which readers would take instead"):
        fitted.export(tmp_path)


def test_half_the_size(fitted, tmp_path) -> None:
    fitted.export_dtype = "float16"
    fitted.export(tmp_path)
    assert load_file(tmp_path / "kmeans.safetensors")["layer_1"].dtype == torch.float16
    for found, centres in zip(read_kmeans(tmp_path, [1, 2]), fitted.codebooks.centres, strict=True):
        assert found.dtype == torch.float32 and torch.equal(found, centres.half().float())
    NearestCentroid(read_kmeans(tmp_path, [1, 2]))([torch.randn(1, 3, 16)] * 2)
    with torch.no_grad():
        fitted.codebooks.centres[0, 0, 0] = 1e5
    with pytest.raises(ValueError, match="too large for export_dtype float16"):
        fitted.export(tmp_path)
