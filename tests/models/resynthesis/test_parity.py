"""Speech resynthesis against what the published code computes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from models.load import load_model
from models.resynthesis.network import F0_HOP
from modules.ema_codebook import EMACodebook
from modules.mel import LogMel, MelDistance
from tests.resynthesis import (
    F0_RECIPE,
    REFERENCE,
    SPEAKERS,
    UTTERANCE,
    dims,
    encoder,
    expected,
    load,
    overrides,
    units,
    wav,
)

MODES = ("quantised", "feats", "learned_f0", "learned_units", "units")


def reference(mode: str, *, voice: str | None = None) -> torch.Tensor:
    key = f"{mode}/{UTTERANCE}/wav" + (f"_as/{voice}" if voice else "")
    return expected()[key].float() / 32767


def decoded(model, mode: str, *, voice: str = "p3") -> torch.Tensor:
    samples = len(reference(mode))
    codes = expected()["learned_units/p3_001/tokens"] if mode == "learned_units" else units()
    given = {}
    if dims()["models"][mode]["recipe"]["f0_mode"] != "none":
        given = {"f0": expected()[f"{mode}/{UTTERANCE}/f0_hz"][None], "source": "p3"}
    if dims()["models"][mode]["recipe"]["speaker_mode"] != "none":
        given["speaker"] = voice
    return model.decode(codes[None, : samples // model.hop_length, None], **given)[0]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_published_waveform(mode: str) -> None:
    model = load(mode)
    assert (decoded(model, mode) - reference(mode)).abs().max() < 1e-4
    assert (model.sample_rate, model.num_codebooks) == (16000, 1)
    assert model.speakers == (SPEAKERS if mode not in ("units", "learned_units") else [])


def test_other_voices_and_codes_of_f0() -> None:
    model = load("quantised")
    for voice in ("p1", "p2"):
        assert (decoded(model, "quantised", voice=voice) - reference("quantised", voice=voice)).abs().max() < 1e-4
    f0 = expected()[f"quantised/{UTTERANCE}/f0_hz"]
    assert torch.equal(model.pitch_codes(f0, speaker="p3"), expected()[f"quantised/{UTTERANCE}/f0_codes"])


def test_units_of_speech() -> None:
    model = load("quantised", **encoder())
    assert torch.equal(model.encode(torch.from_numpy(wav())[None])[0, :, 0], units())
    aligned = load("quantised", alignment="aligned", **encoder())
    assert aligned.encode(torch.from_numpy(wav())[None]).shape == (1, -(-len(wav()) // 320), 1)


def test_long_files_have_all_their_units(monkeypatch) -> None:
    """In pieces with what is around them: as many units, of which nearly all are those of one piece."""
    model = load("quantised", **encoder())
    speech = torch.from_numpy(np.tile(wav(), 12))[None, :75000]
    whole = model.encode(speech)
    monkeypatch.setattr("models.resynthesis.units.LONGEST", 48000)
    monkeypatch.setattr("models.resynthesis.units.AROUND", 12800)
    parts = model.encode(speech)
    assert parts.shape == whole.shape and (parts == whole).float().mean() > 0.8


def test_learned_units_are_the_published() -> None:
    found = load("learned_units").encode(torch.from_numpy(wav())[None])
    assert torch.equal(found[0, :, 0], expected()[f"learned_units/{UTTERANCE}/tokens"])


def test_f0_is_the_trackers() -> None:
    found, wanted = load("quantised").pitch(wav()), expected()[f"f0/{UTTERANCE}"]
    assert found.shape == wanted.shape
    assert ((found - wanted).abs() > 1e-2).float().mean() <= 0.02  # its choices flip with the last bit of a product


def test_the_f0_quantiser_alone() -> None:
    keys = [f"{key}={value}" for key, value in dims()["f0_vqvae"].items()]
    model = load_model(F0_RECIPE, REFERENCE / "f0_vq/g_00000009", overrides=keys)
    codes = model.encode(expected()[f"f0_vq/{UTTERANCE}/contour"][None])
    assert torch.equal(codes[0, :, 0], expected()[f"f0_vq/{UTTERANCE}/codes"])
    assert (model.decode(codes)[0] - expected()[f"f0_vq/{UTTERANCE}/reconstruction"]).abs().max() < 1e-5


def test_a_step_of_the_bottleneck() -> None:
    step = {name.removeprefix("vq_step/"): x for name, x in expected().items() if name.startswith("vq_step/")}
    book = EMACodebook(vocab_size=9, dim=16)
    for name in ("k", "k_sum", "k_elem"):
        getattr(book, name).copy_(step[name])
    codes, _, commitment = book(step["x"].transpose(1, 2))
    assert torch.equal(codes, step["codes"]) and abs(commitment - step["commit"]) < 1e-5
    book.update(seed=0, drawn=step["rows"])
    for name in ("k", "k_sum", "k_elem"):
        assert (getattr(book, name) - step[f"new_{name}"]).abs().max() < 1e-5, name


def test_the_spectrogram_of_the_loss() -> None:
    real, fake = (expected()[f"losses/{name}"][None] for name in ("real", "fake"))
    mel = LogMel(centred=False, power_eps=1e-9)
    assert (mel(real)[0] - expected()["losses/mel_real"]).abs().max() < 1e-4
    distance = MelDistance(centred=False, power_eps=1e-9)(fake, real)
    assert abs(distance - expected()["losses/mel_distance"]) < 1e-4


@pytest.mark.parametrize("mode", ["quantised", "units"])
def test_pieces_are_as_one_pass(mode: str) -> None:
    count = 128
    codes = torch.randint(25, (1, count, 1), generator=torch.Generator().manual_seed(0))
    f0 = torch.full((1, count * 320 // F0_HOP), 110.0)
    given = {"f0": f0, "speaker": "p3"} if mode == "quantised" else {}
    whole = load(mode).decode(codes, **given)
    parts = load(mode, piece_seconds=0.3).decode(codes, **given)
    assert (whole - parts).abs().max() < 1e-5


@pytest.mark.parametrize("level", ["input", "model"])
@pytest.mark.parametrize("samples", [1, 399, 1279, 1280, 1281, 6400])
def test_aligned_any_length_comes_out(samples: int, level: str) -> None:
    model = load("quantised", alignment="aligned", level=level, **encoder())
    assert model.resynthesise(wav()[:samples], source="p3", speaker="p1").shape == (samples,)


def test_the_level_follows_and_silence_stays_silence() -> None:
    model = load("quantised", alignment="aligned", level="input", **encoder())
    loud, quiet = (model.resynthesise(gain * wav(), source="p3") for gain in (1.0, 0.5))
    assert (loud - 2 * quiet).abs().max() < 1e-3 and loud.abs().max() > 0.01
    assert not model.resynthesise(np.zeros(5000, np.float32), source="p3").any()


def test_weights_in_each_spelling_of_weight_norm(tmp_path) -> None:
    shutil.copytree(REFERENCE / "units", tmp_path / "units")
    state = torch.load(REFERENCE / "units/g_00000007", weights_only=True)["generator"]
    newer, plain = {}, {}
    for name, value in state.items():
        begin = name.removesuffix("weight_g").removesuffix("weight_v")
        if name.endswith("weight_g"):
            newer[f"{begin}parametrizations.weight.original0"] = value
            v = state[f"{begin}weight_v"]
            plain[f"{begin}weight"] = value * v / v.flatten(1).norm(dim=1)[:, None, None]
        elif name.endswith("weight_v"):
            newer[f"{begin}parametrizations.weight.original1"] = value
        else:
            newer[name] = plain[name] = value
    for number, spelled in enumerate((newer, plain), 8):
        torch.save({"generator": spelled}, tmp_path / f"units/g_{number:08d}")  # the last of a folder counts
        model = load_model("config/resynthesis/vocoder.yaml", tmp_path / "units", overrides=overrides_of_units())
        assert (decoded(model, "units") - reference("units")).abs().max() < 1e-4


def overrides_of_units() -> list[str]:
    return overrides("units", alignment="published", level="model")


def test_what_does_not_fit_is_named(tmp_path) -> None:
    shutil.copytree(REFERENCE / "units", tmp_path / "other")
    config = tmp_path / "other/config.json"
    config.write_text(config.read_text().replace('"code_hop_size": 320', '"code_hop_size": 160'))
    with pytest.raises(ValueError, match="code_hop_size 160 there, 320 in the recipe"):
        load_model("config/resynthesis/vocoder.yaml", tmp_path / "other", overrides=overrides_of_units())
    state = torch.load(REFERENCE / "units/g_00000007", weights_only=True)["generator"]
    del state["conv_post.bias"]
    state |= {"spkr.weight": torch.zeros(3, 3), "dict.weight": torch.zeros(3, 4)}
    torch.save({"generator": state}, tmp_path / "g_00000001")
    with pytest.raises(ValueError, match=r"(?s)conv_post.bias.*spkr.weight.*dict.weight"):
        load_model("config/resynthesis/vocoder.yaml", tmp_path / "g_00000001", overrides=overrides_of_units())


def test_another_f0_quantiser_than_the_checkpoints_is_told(tmp_path) -> None:
    state = torch.load(REFERENCE / "f0_vq/g_00000009", weights_only=True)["generator"]
    state["vq.level_blocks.0.k"] = state["vq.level_blocks.0.k"] + 0.5
    torch.save({"generator": state}, tmp_path / "g_00000001")
    with pytest.raises(ValueError, match="they differ by up to"):
        load("quantised", f0_quantizer_path=tmp_path / "g_00000001")


def test_names_of_nobody_list_everybody() -> None:
    model = load("quantised")
    with pytest.raises(ValueError, match="no speaker 'nobody'; there are p1, p2, p3"):
        decoded(model, "quantised", voice="nobody")
