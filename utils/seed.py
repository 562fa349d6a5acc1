"""Randomness as a function of where one is, so that a restart needs no memory of it."""

from __future__ import annotations

import hashlib

import torch


def seed_everything(*where: int) -> None:
    """Seed torch's generators, on all devices, from integers such as (seed, step, rank)."""
    digest = hashlib.sha256(repr(where).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "little"))


def make_reproducible() -> None:
    """Ask for the same result from the same input: no TF32 rounding, no timing-dependent choice of a convolution.

    To be called when all libraries are imported: speechbrain, for one, allows TF32 everywhere as it is imported.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
