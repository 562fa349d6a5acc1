"""The toy system that is shipped: whole, as its card says, exportable, and doing what it is for."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from data import audio
from data.prepare.synthetic import Size, make
from data.scp import read_scp
from evaluation.signal_metrics import log_mel
from models.interfaces import TargetExtractor
from models.kmeans.files import read_kmeans, write_kmeans, write_released_kmeans
from models.unit_hifigan.export import write_released
from models.unit_hifigan.files import read_vocoder
from pretrained.cards import weights
from pretrained.toy.make import enrolments_of_interferers
from tests.toy import ROOT, call
from utils.files import file_digest
from utils.recipe import Recipe

TOY = ROOT / "pretrained/toy"
RECIPE = ROOT / "config/toy/tselm.yaml"
LAYERS = (1, 2, 4, 6)


@cache
def extractor(kmeans: Path = TOY / "kmeans", vocoder: Path = TOY / "vocoder") -> TargetExtractor:
    from models import load_extractor

    overrides = [f"wavlm_path={TOY / 'wavlm'}", f"kmeans_path={kmeans}", f"hifi_gan_path={vocoder}"]
    return load_extractor(RECIPE, TOY / "tselm.pth", overrides=overrides)


@pytest.fixture(scope="module")
def lists(tmp_path_factory) -> dict[str, dict[str, Path]]:
    """Mixtures of voices and sentences that were not trained on: role -> name -> file."""
    folder = tmp_path_factory.mktemp("speech")
    make(folder / "corpus", Size.of(0.001, speakers=2, dev=1, test=10), seed=7, jobs=2)
    return {role: read_scp(folder / f"corpus/test/{role}.scp") for role in ("mix_clean", "s1", "s2", "aux_s1")}


def test_the_card_tells_every_file_and_its_digest() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| [\d.]+ \| `([0-9a-f]{64})` \|$", (TOY / "README.md").read_text(), re.MULTILINE)
    shipped = set(weights(TOY))
    assert {TOY / name for name, _ in rows} == shipped
    assert all(file_digest(TOY / name) == digest for name, digest in rows)
    assert sum(path.stat().st_size for path in TOY.rglob("*") if path.is_file()) <= 40e6


@pytest.mark.slow
def test_without_a_recipe_it_extracts_and_says_who_it_is(tmp_path, lists) -> None:
    name = next(iter(lists["mix_clean"]))
    given = ("--mixture", lists["mix_clean"][name], "--enrolment", lists["aux_s1"][name])
    outputs = {}
    for kind, more in {"alone": (), "named": ("-config", RECIPE, "-ckpt", TOY / "tselm.pth")}.items():
        done = call("inference.py", *given, "--output", tmp_path / f"{kind}.wav", "-gpus", "cpu", *more)
        assert done.returncode == 0 and "pretrained/toy/README.md" in done.stderr, done.stderr
        outputs[kind] = audio.read(tmp_path / f"{kind}.wav")
    assert np.array_equal(outputs["alone"], outputs["named"])
    done = call("inference.py", *given, "--output", tmp_path / "c.wav", "-ckpt", TOY / "tselm.pth")
    assert done.returncode == 2 and "-config FILE" in done.stderr  # weights of whatever they are


@pytest.mark.slow
def test_released_layouts_of_its_parts_give_the_same_output(tmp_path, lists) -> None:
    centres = dict(zip(LAYERS, read_kmeans(TOY / "kmeans", LAYERS), strict=True))
    write_released_kmeans(tmp_path / "kmeans", centres, name="toy")
    arguments, state = read_vocoder(TOY / "vocoder")
    write_released(tmp_path / "vocoder", arguments, state, title="toy")
    name = next(iter(lists["mix_clean"]))
    signals = [torch.from_numpy(audio.read(lists[role][name])) for role in ("mix_clean", "aux_s1")]
    same = extractor(tmp_path / "kmeans", tmp_path / "vocoder").extract(*signals)
    assert torch.equal(extractor().extract(*signals), same)
    write_kmeans(tmp_path / "other", {layer: x.flip(0) for layer, x in centres.items()})
    with pytest.raises(ValueError, match="something else"):
        extractor(tmp_path / "other")


@pytest.mark.slow
def test_it_follows_the_enrolled_talker(lists) -> None:
    """And the other one, with the other one's enrolment; what is measured on more mixtures is in the card."""
    followed = []
    for enrolments, wanted, other in (
        (lists["aux_s1"], "s1", "s2"),
        (enrolments_of_interferers(lists["aux_s1"]), "s2", "s1"),
    ):
        for name, path in enrolments.items():
            mixture, enrolment = (torch.from_numpy(audio.read(x)) for x in (lists["mix_clean"][name], path))
            output = log_mel(extractor().extract(mixture, enrolment).numpy())
            distances = [np.abs(output - log_mel(audio.read(lists[role][name]))).mean() for role in (wanted, other)]
            followed.append(distances[0] < distances[1])
    assert len(followed) >= 15 and np.mean(followed) >= 0.85, followed


def test_every_subset_of_its_layers_is_decoded() -> None:
    vocoder = Recipe(RECIPE, overrides=[f"hifi_gan_path={TOY / 'vocoder'}"]).build("vocoder")["vocoder"]
    tokens = torch.randint(200, (1, 20, 4), generator=torch.Generator().manual_seed(0))
    for missing in range(15):
        absent = torch.tensor([bool(missing >> column & 1) for column in range(4)])
        wav = vocoder.decode(tokens.masked_fill(absent, -1))
        assert wav.shape == (1, 6400) and bool(wav.isfinite().all()) and float(wav.abs().max()) > 0.001
