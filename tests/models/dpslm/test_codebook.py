"""A codebook of units from its recipe: fitted to what units.yaml quantises, and read there."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from models.dpslm.padded_wavlm import PaddedWavLM
from models.dpslm.units import DurationPenalisedUnits
from tests.dpslm import REFERENCE, expected, speech, unit_settings
from tests.toy import call, write_corpus


def test_what_is_fitted_are_the_features_of_units() -> None:
    """In batches of several lengths too."""
    encoder = PaddedWavLM(REFERENCE / "wavlm.pt", layers=[4])
    wavs = [speech("utt0"), speech("utt2")]
    lengths = torch.tensor(list(map(len, wavs)))
    batch = torch.full((2, int(lengths.max())), 0.3)
    for row, wav in zip(batch, wavs, strict=True):
        row[: len(wav)] = wav
    (features,) = encoder(batch, lengths)
    assert encoder.grid.frames(lengths).tolist() == [53, 30]
    for row, name in zip(features, ("utt0", "utt2"), strict=True):
        wanted = expected()[f"features/{name}"]
        assert (row[: len(wanted)] - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.slow
def test_the_recipe_fits_a_codebook_that_units_are_made_with(tmp_path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    keys = {
        "tr_data_scp_path": corpus["tr_data_scp_path"], "cv_data_scp_path": corpus["cv_clean_path"],
        "wavlm_path": REFERENCE / "wavlm.pt", "ssl_layers": "[4]", "num_clusters": 12, "crop_length": 8000,
        "reservoir_frames": 100, "reservoir_batches": 3, "batch_size": 2, "batch_size_eval": 2, "accumulate": 1,
        "gpus": "cpu", "num_workers": 0,
    }  # fmt: skip
    overrides = [part for key, value in keys.items() for part in ("--override", f"{key}={value}")]
    done = call("train.py", "--config_path", "config/dpslm/codebook.yaml", "--log", tmp_path / "log",
                "--ckpt_path", tmp_path / "ckpt", "--export", tmp_path / "kmeans", *overrides)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert load_file(tmp_path / "kmeans/kmeans.safetensors")["layer_4"].shape == (12, 32)
    settings = unit_settings(codebook_path=tmp_path / "kmeans", num_clusters=12, lmbda=1.0)
    units = DurationPenalisedUnits(**settings).encode(speech("utt0")[None])
    assert units.shape == (1, 53, 1) and 0 <= int(units.min()) and int(units.max()) < 12
