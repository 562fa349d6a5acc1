"""What the tests of the unit HiFi-GAN's training share: small networks, and batches of noise and tones."""

from __future__ import annotations

import copy
from functools import partial

import torch
from speechbrain.lobes.models.HifiGAN import (
    UnitHifiganGenerator,
)

from models.unit_hifigan.task import TokenVocoding
from modules.mel import MelDistance
from tests.toy import REFERENCE, ROOT

CPU = torch.device("cpu")
RECIPE = ROOT / "config/unit_hifigan.yaml"
LAYERS, V, FRAMES = [1, 7, 23], 10, 8
ARGUMENTS = dict(
    in_channels=16,
    out_channels=1,
    resblock_type="1",
    resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    resblock_kernel_sizes=[3, 7, 11],
    upsample_kernel_sizes=[11, 8, 8, 4, 4],
    upsample_initial_channel=32,
    upsample_factors=[5, 4, 4, 2, 2],
    vocab_size=len(LAYERS) * V + 1,
    embedding_dim=16,
    attn_dim=8,
)
TOY = {
    "gpus": "cpu",
    "num_workers": 0,
    "log_interval": 1,
    "wavlm_path": REFERENCE / "wavlm",
    "kmeans_path": REFERENCE / "kmeans",
    "num_clusters": 50,
    "embedding_dim": 16,
    "attn_dim": 8,
    "upsample_initial_channel": 32,
    "discriminator_width": 0.05,
    "discriminator_periods": "[2, 3]",
    "discriminator_scales": 1,
    "frames": FRAMES,
    "valid_frames": 60,
    "batch_size": 4,
    "batch_size_eval": 2,
    "epoch": 2,
}


def make(discriminator: torch.nn.Module | None, **more: object) -> TokenVocoding:
    """A task with weights of its own, the same each time."""
    torch.manual_seed(0)
    optimizer = partial(torch.optim.AdamW, lr=0.002, betas=(0.8, 0.99), fused=True)
    settings = dict(
        generator=UnitHifiganGenerator(**ARGUMENTS),
        discriminator=copy.deepcopy(discriminator),
        layers=LAYERS,
        vocab_size=V,
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        mel=MelDistance(),
    )
    return TokenVocoding(**{**settings, **more})


def make_batch(items: int = 3, *, frames: int = FRAMES, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tones of changing loudness and a little noise, with tokens that say nothing of them."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(items * frames * 320).view(items, -1) / 16000
    pitch = 120 + 300 * torch.rand(items, 1, generator=generator)
    wav = 0.2 * torch.sin(2 * torch.pi * pitch * time) * (1 + torch.sin(2 * torch.pi * 5 * time))
    wav = wav + 0.01 * torch.randn(wav.shape, generator=generator)
    return {"tokens": torch.randint(0, V, (items, frames, len(LAYERS)), generator=generator), "wav": wav}


def gradients(network: torch.nn.Module) -> list[torch.Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]
