"""The toy parts of DP-SLM in tests/reference/dpslm, and what the public code computes of them."""

from __future__ import annotations

import functools
import json

import soundfile as sf
import torch
from safetensors.torch import load_file

from models.dpslm.acoustic import AcousticModel
from models.dpslm.codec import WavTokenizer
from models.dpslm.unit_lm import UnitLanguageModel
from models.load import load_model
from tests.toy import ROOT

REFERENCE = ROOT / "tests/reference/dpslm"
DIMS = json.loads((REFERENCE / "dims.json").read_text())
UTTERANCES = ("utt0", "utt1", "utt2", "utt3")
UNITS = ROOT / "config/dpslm/units.yaml"


@functools.cache
def expected() -> dict[str, torch.Tensor]:
    return load_file(REFERENCE / "expected.safetensors")


def speech(utterance: str) -> torch.Tensor:
    """[T] at 16 kHz."""
    return torch.from_numpy(sf.read(REFERENCE / f"wavs/{utterance}.wav", dtype="float32")[0])


def unit_settings(case: str = "main", **more: object) -> dict[str, object]:
    """Keys of units.yaml that make the units of a case."""
    search = next(dict(one) for one in DIMS["cases"] if one["name"] == case)
    del search["name"]
    paths = {"wavlm_path": str(REFERENCE / "wavlm.pt"), "codebook_path": str(REFERENCE / "codebook.pt")}
    return {**paths, "wavlm_layer": DIMS["wavlm_layer"], "num_clusters": DIMS["num_clusters"], **search, **more}


CLIPS = ("clip0", "clip1", "clip2")
UNIT_LM, ACOUSTIC, CODEC, SPEECH = (
    ROOT / f"config/dpslm/{name}.yaml" for name in ("unit_lm", "acoustic", "codec", "resynthesis")
)


def collapsed(utterance: str) -> torch.Tensor:
    """[U], the units of the case ``main`` without repeats."""
    return torch.unique_consecutive(expected()[f"units/main/{utterance}"].flatten())


def lm_settings(**more: object) -> dict[str, object]:
    """Keys of unit_lm.yaml that fit unit_lm.pt."""
    return {**DIMS["lm"], "num_clusters": DIMS["num_clusters"], "max_units": DIMS["max_units"], **more}


def acoustic_settings(**more: object) -> dict[str, object]:
    """Keys of acoustic.yaml that fit ella_v.pt."""
    rates = {"unit_rate": DIMS["unit_rate"], "code_rate": DIMS["code_rate"]}
    codes = {"num_codes": DIMS["codec"]["num_codes"], "max_codec_tokens_per_phone": DIMS["max_codes"]}
    return {**DIMS["am"], "num_clusters": DIMS["num_clusters"], **codes, **rates, **more}


def overrides(settings: dict[str, object]) -> list[str]:
    """As ``KEY=VALUE`` texts."""
    return [f"{key}={'null' if value is None else value}" for key, value in settings.items()]


def unit_lm(**more: object) -> UnitLanguageModel:
    return load_model(UNIT_LM, REFERENCE / "unit_lm.pt", overrides=overrides(lm_settings(**more)))


def acoustic(**more: object) -> AcousticModel:
    return load_model(ACOUSTIC, REFERENCE / "ella_v.pt", overrides=overrides(acoustic_settings(**more)))


@functools.cache
def codec() -> WavTokenizer:
    return load_model(CODEC, overrides=[f"wavtokenizer_path={REFERENCE / 'wavtokenizer.ckpt'}"])
