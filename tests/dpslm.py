"""The toy parts of DP-SLM in tests/reference/dpslm, and what the public code computes of them."""

from __future__ import annotations

import functools
import json

import soundfile as sf
import torch
from safetensors.torch import load_file

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
