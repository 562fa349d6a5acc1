"""Systems of the sizes that matter with random weights, in the files that recipes read."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from data import audio
from data.scp import write_scp
from running.record import read_runs
from utils import checkpoint
from utils.recipe import Recipe

RECIPES = {False: Path("config/tselm_l.yaml"), True: Path("config/tselm_toy.yaml")}
LAYERS = {False: (1, 3, 7, 12, 18, 23), True: (1, 3, 7)}
CLUSTERS = {False: 1000, True: 50}


@contextlib.contextmanager
def random_parts(*, toy: bool) -> Iterator[tuple[Path, list[str]]]:
    """``write_parts`` into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        yield write_parts(Path(name), toy=toy)


def write_parts(folder: Path, *, toy: bool) -> tuple[Path, list[str]]:
    """Write WavLM, k-means and vocoder (1.5 GB; toy: 2 MB), or take those that are there.

    The centroids are frames of the encoder's own output, so that tokens spread over them.

    Returns:
        The recipe, and overrides with the paths.
    """
    named = {"wavlm_path": "wavlm", "kmeans_path": "kmeans", "hifi_gan_path": "vocoder"}
    paths = [f"{key}={folder / part}" for key, part in named.items()]
    if (folder / "vocoder").is_dir():  # the last to be written
        return RECIPES[toy], paths
    from speechbrain.lobes.models.HifiGAN import UnitHifiganGenerator
    from transformers import WavLMConfig, WavLMModel

    from models.kmeans.files import write_kmeans
    from models.unit_hifigan.files import write_vocoder
    from models.wavlm import WavLM

    layers, clusters = LAYERS[toy], CLUSTERS[toy]
    sizes = dict(hidden_size=64, num_attention_heads=4, intermediate_size=128, conv_dim=[64] * 7,
                 num_hidden_layers=7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4) if toy else dict(
                 hidden_size=1024, num_attention_heads=16, intermediate_size=4096, num_hidden_layers=24)  # fmt: skip
    width, start, attention = (32, 64, 16) if toy else (1024, 512, 128)
    vocoder = dict(
        in_channels=width, out_channels=1, resblock_type="1", resblock_dilation_sizes=[[1, 3, 5]] * 3,
        resblock_kernel_sizes=[3, 7, 11], upsample_kernel_sizes=[11, 8, 8, 4, 4], upsample_initial_channel=start,
        upsample_factors=[5, 4, 4, 2, 2], vocab_size=len(layers) * clusters + 1, embedding_dim=width,
        attn_dim=attention,
    )  # fmt: skip
    config = WavLMConfig(feat_extract_norm="layer", do_stable_layer_norm=True, **sizes)
    WavLMModel(config).save_pretrained(folder / "wavlm")
    hidden = WavLM(folder / "wavlm", layers=layers)(speech(1, 320 * (clusters + 100)))
    centres = {layer: x[0][torch.randperm(x.shape[1])[:clusters]] for layer, x in zip(layers, hidden, strict=True)}
    write_kmeans(folder / "kmeans", centres)
    write_vocoder(folder / "vocoder.part", vocoder, UnitHifiganGenerator(**vocoder).state_dict())
    (folder / "vocoder.part").rename(folder / "vocoder")
    return RECIPES[toy], paths


def checkpoint_of(recipe: Path, keys: Sequence[str], folder: Path) -> Path:
    """A checkpoint of the recipe's network as it is built: random."""
    network = Recipe(recipe, overrides=keys).build("network")["network"]
    checkpoint.save(folder / "random.pth", {"model": checkpoint.flatten({"network": network.state_dict()})})
    return folder / "random.pth"


def write_list(folder: Path, *, files: int, seconds: float) -> Path:
    """Mixtures and enrolments with their lists, as inference.py reads them; returns the folder."""
    names = [f"utt{number}" for number in range(files)]
    for kind, length in (("mix_clean", seconds), ("aux_s1", 4.5)):
        minutes, rest = divmod(round(16000 * length), 16000 * 60)  # a minute, over and over
        for name, wav in zip(names, speech(files, 16000 * 60 if minutes else rest).numpy(), strict=True):
            wav = wav / abs(wav).max()
            audio.write_parts(folder / kind / f"{name}.wav", [*[wav] * minutes, wav[:rest]])
        write_scp(folder / f"{kind}.scp", {name: folder / kind / f"{name}.wav" for name in names})
    return folder


def extract_list(
    recipe: Path, keys: Sequence[str], checkpoint: Path, lists: Path, output: Path, options: Sequence[str]
) -> dict[str, Any]:
    """Run inference.py on lists; returns what it reports of its cost. If it fails, so does the benchmark."""
    command = [sys.executable, "inference.py", "-scp", lists, "-config", recipe, "-ckpt", checkpoint]
    overrides = [part for key in keys for part in ("--override", key)]
    command = [*map(str, command), "--output", str(output), *options, *overrides]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return read_runs(output / "inference.json")[-1]


def speech(batch: int, samples: int) -> torch.Tensor:
    """Something that changes as speech does: noise through moving resonances, [B, T] in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    knots = torch.rand(batch, 3, samples // 1600 + 2, generator=generator) * 3000 + 200  # three formants, every 0.1 s
    pitch = torch.rand(batch, 1, samples // 8000 + 2, generator=generator) * 150 + 80
    tracks = [torch.nn.functional.interpolate(t, size=samples, mode="linear") for t in (knots, pitch)]
    phases = torch.cat(tracks, dim=1).cumsum(dim=-1) * (2 * torch.pi / 16000)
    voiced = phases[:, :3].sin().sum(dim=1) * (1 + phases[:, 3].sin())
    return 0.1 * voiced + 0.01 * torch.randn(batch, samples, generator=generator)
