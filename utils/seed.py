"""Randomness as a function of where one is, so that a restart needs no memory of it."""

from __future__ import annotations

import hashlib
import os

import torch


def seed_everything(*where: int) -> None:
    """Seed torch's generators, on all devices, from integers such as (seed, step, rank), none below 0 (ValueError)."""
    if min(where) < 0:
        raise ValueError(f"a seed must not be negative, got {min(where)}")
    digest = hashlib.sha256(repr(where).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "little"))


def make_reproducible() -> None:
    """Ask for the same result from the same input: no TF32 rounding, no timing-dependent choice of an algorithm.

    To be called when all libraries are imported: speechbrain, for one, allows TF32 everywhere as it is imported, on
    CPUs that have it too. On a GPU, torch takes its deterministic algorithms where it has them, and warns where it has
    none.
    """
    cuda, cudnn, cpu = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    for backend in (cuda.matmul, cudnn.conv, cudnn.rnn, cpu.matmul, cpu.conv, cpu.rnn):
        backend.fp32_precision = "ieee"
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # a help in debugging, which takes time
