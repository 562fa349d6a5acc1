"""The toy systems of tests/reference/resynthesis, and what the published code computes of them."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from safetensors.torch import load_file

from models.load import load_model
from tests.toy import ROOT

REFERENCE = ROOT / "tests/reference/resynthesis"
RECIPE = ROOT / "config/resynthesis/vocoder.yaml"
F0_RECIPE = ROOT / "config/resynthesis/f0_vqvae.yaml"
UTTERANCE = "p3_001"
SPEAKERS = ["p1", "p2", "p3"]


@functools.cache
def expected() -> dict[str, torch.Tensor]:
    return load_file(REFERENCE / "expected.safetensors")


@functools.cache
def dims() -> dict:
    return json.loads((REFERENCE / "dims.json").read_text())


def wav() -> np.ndarray:
    return sf.read(REFERENCE / f"wav/{UTTERANCE}.wav", dtype="float32")[0]


def units() -> torch.Tensor:
    """[N] of the manifest."""
    return expected()[f"units/{UTTERANCE}"]


def overrides(mode: str, **more: object) -> list[str]:
    """What the recipe must be told to be that of a folder of the reference."""
    keys = dict(dims()["models"][mode]["recipe"])
    if keys["speaker_mode"] == "table":
        keys["speakers"] = REFERENCE / "speakers.txt"
    if stats := dims()["models"][mode]["f0_stats"]:
        keys["f0_stats"] = REFERENCE / stats
    return [f"{key}={value}" for key, value in {**keys, **more}.items()]


def encoder() -> dict[str, object]:
    told = dims()["unit_encoder"]
    return {
        "ssl_path": REFERENCE / "hubert", "kmeans_path": REFERENCE / "km.bin", "ssl_layer": told["ssl_layer"],
        "ssl_normalize": told["ssl_normalize"],
    }  # fmt: skip


@functools.cache
def load(mode: str, **more: object):
    keys = {"alignment": "published", "level": "model", **more}
    return load_model(RECIPE, REFERENCE / mode, overrides=overrides(mode, **keys))


class SpectrumOfVoice:
    """A speaker encoder for tests: the mean log spectrum in four bands."""

    def embed(self, wav: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, 4]."""
        spectrum = torch.stft(wav, 64, window=torch.hann_window(64), return_complex=True).abs().mean(dim=2)
        return (spectrum[:, :32].unflatten(1, (4, 8)).mean(dim=2) + 1e-5).log()


def write_voices(folder: Path) -> None:
    """Harmonic tones of two talkers, whose formants are the units."""
    rng, lines = np.random.default_rng(1), []
    for number in range(6):
        who, pitch = (("low", 120.0), ("high", 220.0))[number % 2]
        found = np.repeat(rng.integers(0, 8, 6), 6)
        t = np.arange(len(found) * 320) / 16000
        phase = np.cumsum(pitch * (1 + 0.1 * np.sin(5 * t))) * 2 * np.pi / 16000
        x = sum(
            np.exp(-(((k * pitch - 400 * np.repeat(found, 320)) / 300) ** 2)) * np.sin(k * phase) for k in range(1, 20)
        )
        sf.write(folder / f"{who}_{number}.wav", 0.3 * x / np.abs(x).max() + 1e-4 * rng.standard_normal(len(t)), 16000)
        lines.append(str({"audio": f"{who}_{number}.wav", "hubert": " ".join(map(str, found))}))
    (folder / "train.txt").write_text("\n".join(lines[:4]))
    (folder / "valid.txt").write_text("\n".join(lines[4:]))
