"""The toy codecs of tests/reference/speechtokenizer, and what the public code computes of them."""

from __future__ import annotations

import functools
import json

import soundfile as sf
import torch
from safetensors.torch import load_file

from models.speechtokenizer.architecture import Architecture, read_config
from models.speechtokenizer.codec import SpeechTokenizer
from tests.toy import ROOT

REFERENCE = ROOT / "tests/reference/speechtokenizer"
VARIANTS = ("elu", "snake")
UTTERANCES = ("utt0", "utt2")
LONG_SAMPLES = 640123


@functools.cache
def expected() -> dict[str, torch.Tensor]:
    return load_file(REFERENCE / "expected.safetensors")


def config(variant: str) -> dict[str, object]:
    return json.loads((REFERENCE / variant / "config.json").read_text())


def architecture(variant: str) -> Architecture:
    return read_config(REFERENCE / variant / "config.json")


def weights(variant: str) -> dict[str, torch.Tensor]:
    """The released state dict, as it is in the file."""
    return torch.load(REFERENCE / variant / "SpeechTokenizer.pt", weights_only=True)


def load(variant: str, **settings: object) -> SpeechTokenizer:
    codec = SpeechTokenizer(architecture=architecture(variant), **settings)
    codec.load_checkpoint(REFERENCE / variant / "SpeechTokenizer.pt")
    return codec


def read(name: str, folder: str = "test") -> torch.Tensor:
    """[T]."""
    return torch.from_numpy(sf.read(REFERENCE / folder / f"{name}.wav", dtype="float32")[0])


def train_batch() -> torch.Tensor:
    """t0 to t7, [8, 16000]."""
    return torch.stack([read(f"t{i}", "train") for i in range(8)])


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference; the shapes must be equal."""
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).abs().max())
