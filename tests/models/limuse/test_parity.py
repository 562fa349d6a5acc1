"""LiMuSE against what the published code computes."""

from __future__ import annotations

import pytest
import torch

from models.limuse.files import load_weights
from models.load import load_model
from tests.limuse import RECIPE, REFERENCE, checkpoint, decibels, expected, inputs, network, overrides, sizes

STAGES = ("encoder", "audio_block", "fusion_block", "gen_masks")


def load(which: str, **more):
    return load_model(RECIPE, checkpoint(which), overrides=overrides(which, **more))


def hooked(model) -> dict[str, torch.Tensor]:
    """What enters and leaves the stages, once the model has run."""
    seen: dict[str, torch.Tensor] = {}
    for name in STAGES:

        def keep(_, entered, left, name=name) -> None:
            seen[f"{name}.in"], seen[f"{name}.out"] = entered[0], left

        model.network.get_submodule(name).register_forward_hook(keep)
    return seen


@pytest.mark.parametrize("which", ["full", "whole_model", "no_codec", "no_voiceprint", "raw_2ch"])
def test_every_variant_gives_the_published_waveform(which: str) -> None:
    model = load(which)
    given = {cue: x for cue, x in inputs("utt2").items() if cue == "mixture" or cue in model.network.cues}
    assert (model.extract(**given) - expected()[f"{which}/utt2/wav"]).abs().max() < 1e-5


def test_stages_and_faces() -> None:
    model = load("full")
    seen = hooked(model)
    model.extract(**inputs("utt2"))
    for name in ("encoder.out", *(f"{stage}.{end}" for stage in STAGES[1:] for end in ("in", "out"))):
        wanted = expected()[f"full/utt2/{name}"]
        assert (seen[name] - wanted).abs().max() < 1e-4 * wanted.abs().max(), name
    assert (model.extract(**inputs("utt1")) - expected()["full/utt1/wav"]).abs().max() < 1e-5


@pytest.mark.parametrize("samples", [1, 33, 544, 641])
def test_short_signals(samples: int) -> None:
    given = {name: expected()[f"short/{samples}/{name}"] for name in ("mixture", "visual")}
    made = load("full").extract(**given, voiceprint=inputs("utt0")["voiceprint"])
    assert (made - expected()[f"short/{samples}/wav"]).abs().max() < 1e-5


def test_released_names_and_order() -> None:
    names = {line.split()[0] for line in (REFERENCE / "state_dict_keys.txt").read_text().splitlines()}
    assert network().state_dict().keys() == names
    assert list(network("quantised").quantised_layers()) == (REFERENCE / "quantised/order.txt").read_text().split()


def test_quantised_weights_are_the_published_ones() -> None:
    quantised = network("quantised")
    load_weights(quantised, checkpoint("quantised"))
    names, weights = list(quantised.quantised_layers()), quantised.quantised_weights()
    with torch.no_grad():
        hard = dict(zip(names, quantised.quantiser.hard(weights), strict=True))
        soft = dict(zip(names, quantised.quantiser.soft(weights, 25.0), strict=True))
    for kind, values in (("quantised_weight", hard), ("soft_weight", soft)):
        wanted = {key.partition("/")[2]: x for key, x in expected().items() if key.startswith(kind)}
        assert len(wanted) == 14
        for name, x in wanted.items():
            assert (values[name] - x).abs().max() < 1e-7, name


def test_quantised_weights_alone() -> None:
    made = load("quantised", activation_bits=None).extract(**inputs("utt2"))
    assert (made - expected()["weights_only/utt2/wav"]).abs().max() < 2e-5


def test_rounded_activations() -> None:
    """Chaos lets them differ late, but not early: with a wrong rounding the first block is entered with 26 to 47 dB."""
    model = load("quantised")
    seen = hooked(model)
    made = model.extract(**inputs("utt2"))
    assert decibels(seen["audio_block.in"], expected()["quantised/utt2/audio_block.in"]) > 80
    assert decibels(made, expected()["quantised/utt2/wav"]) > 12


@pytest.mark.parametrize("kind", ["xvector", "ecapa"])
def test_voiceprints_of_speaker_encoders(kind: str) -> None:
    import soundfile as sf

    from models.limuse.speaker_encoders import load_speaker_encoder

    encoder = load_speaker_encoder(kind, REFERENCE / kind, 48, ["voiceprint"])
    line = (REFERENCE / "test_audio/aux_s1.scp").read_text().splitlines()[0]
    wav, _ = sf.read(REFERENCE / "test_audio" / line.split(maxsplit=1)[1], dtype="float32")
    made = encoder.embed(torch.from_numpy(wav)[None])[0]
    assert decibels(made, expected()[f"{kind}/utt0/voiceprint"]) > 60


def test_sizes_of_the_recipe_are_the_published_ones() -> None:
    assert sizes("full")["num_filters"] == 12  # and not the recipe's own
    assert sum(p.numel() for p in network(num_filters=128, context_hidden=256, groups=16).parameters()) == 1_122_947
