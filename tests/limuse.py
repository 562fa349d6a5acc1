"""What the tests of LiMuSE share: the reference data, and the recipe settings that fit it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
from safetensors.torch import load_file

from models.limuse.network import LiMuSE
from tests.toy import ROOT

REFERENCE = ROOT / "tests/reference/limuse"
RECIPE = ROOT / "config/limuse.yaml"
DIMS = json.loads((REFERENCE / "dims.json").read_text())
UTTERANCES = ("utt0", "utt1", "utt2", "utt3")


def sizes(which: str = "full") -> dict[str, Any]:
    """Keys of the recipe that fit a folder of the reference."""
    d = DIMS["full"] if which in ("full", "quantised") else DIMS["variants"][which]
    found = {
        "num_filters": d["N"], "context_hidden": d["hidden"], "filter_length": d["K"], "groups": d["groups"],
        "context_length": d["context"],
    }  # fmt: skip
    if "cues" in d:
        more = ("channels", "voiceprint_dim", "cues")
        found |= {"context_codec": d["cc"], **{key: d[key] for key in more}}
    return found | ({"quantised": True} if which == "quantised" else {})


def overrides(which: str = "full", **more: Any) -> list[str]:
    """``KEY=VALUE`` texts that bring the recipe to the reference's sizes, at the network's own level."""
    values = {**sizes(which), "level": "raw", **more}
    return [f"{k}={json.dumps(v) if isinstance(v, list | bool) or v is None else v}" for k, v in values.items()]


def flags(which: str = "full", **more: Any) -> list[str]:
    """The same as command-line arguments."""
    return [part for text in overrides(which, **more) for part in ("--override", text)]


def network(which: str = "full", **more: Any) -> LiMuSE:
    """A network of the reference's sizes, with the weights of its initialisation."""
    return LiMuSE(**{**sizes(which), **more}).eval()


def checkpoint(which: str = "full") -> Path:
    return REFERENCE / which / ("best_model.pt" if which == "whole_model" else "best.pt")


@cache
def expected() -> dict[str, torch.Tensor]:
    return load_file(REFERENCE / "expected.safetensors")


def inputs(utterance: str, channels: int = 2) -> dict[str, torch.Tensor | None]:
    """Mixture [C, T], voiceprint [512] and face [V, 256] or None, as ``extract`` takes them."""
    lists = {}
    for kind in ("mix_clean", "aux_s1", "visual_s1"):
        lines = (REFERENCE / f"test/{kind}.scp").read_text().splitlines()
        lists[kind] = dict(line.split(maxsplit=1) for line in lines)
    name = f"{utterance}.wav"
    wav, _ = sf.read(REFERENCE / "test" / lists["mix_clean"][name], dtype="float32")
    face = lists["visual_s1"].get(name)
    return {
        "mixture": torch.from_numpy(wav.T[:channels].copy()),
        "voiceprint": torch.from_numpy(np.load(REFERENCE / "test" / lists["aux_s1"][name]).reshape(-1)),
        "visual": None if face is None else torch.from_numpy(np.load(REFERENCE / "test" / face)),
    }


def decibels(made: torch.Tensor, wanted: torch.Tensor) -> float:
    """The wanted signal over the difference."""
    made, wanted = made.double(), wanted.double()
    return float(10 * torch.log10(wanted.square().sum() / (made - wanted).square().sum().clamp(min=1e-30)))
