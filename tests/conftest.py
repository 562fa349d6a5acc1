"""Fixtures of all tests."""
# ruff: noqa: E402

from __future__ import annotations

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell sets it for what it starts with &; tests send Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as in train.py
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network

import pytest
import torch

from tests.toy import RECIPE, settings
from utils.recipe import Recipe


@pytest.fixture(autouse=True, scope="session")
def two_threads() -> None:
    """The reference's numbers were made with two threads; with others, the last bits differ."""
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def tokenizer():
    """The reference's tokenizer."""
    return Recipe(RECIPE, overrides=settings()).build("tokenizer")["tokenizer"]


@pytest.fixture(scope="session")
def vocoder():
    """The reference's vocoder."""
    return Recipe(RECIPE, overrides=settings()).build("vocoder")["vocoder"]
