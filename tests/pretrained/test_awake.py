"""The encoder that is left in train mode, which the toy's comparison of inputs has beside its own."""

from __future__ import annotations

import pytest
import torch

from tests.toy import ROOT, read, settings
from utils.recipe import Recipe


@pytest.mark.slow
def test_an_encoder_left_in_train_mode_is_random_there_and_itself_in_validation() -> None:
    """The published fault, as config/toy/tselm_awake.yaml measures it."""
    layers = "[1, 3, 7, 12, 18, 23]"
    overrides = [*settings(), f"ssl_layers={layers}", f"vocoder_layers={layers}"]
    awake = Recipe(ROOT / "config/toy/tselm_awake.yaml", overrides=overrides).build("tokenizer")["tokenizer"]
    asleep = Recipe(ROOT / "config/toy/tselm.yaml", overrides=overrides).build("tokenizer")["tokenizer"]
    wav = read("mix_clean", "utt0", 32000)
    torch.manual_seed(0)
    first, second = awake.train().encode(wav), awake.encode(wav)
    assert first.shape == asleep.encode(wav).shape and not torch.equal(first, second)
    assert torch.equal(awake.eval().encode(wav), asleep.train().encode(wav))
    # without any randomness, what is computed in train mode is the same
    still = Recipe(
        ROOT / "config/toy/tselm_awake.yaml",
        overrides=[*overrides, "tokenizer={dropout: 0.0, layer_drop: 0.0, mask: 0.0}"],
    ).build("tokenizer")["tokenizer"]
    kept = slice(20, 60)
    pairs = zip(still.train().features(wav, kept=kept), asleep.features(wav, kept=kept), strict=True)
    assert still.is_awake and all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)
