from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.browser import Browser
from tests.served import served, why_not


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if reason := why_not():
        pytest.skip(reason)
    with served(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with Browser(timeout=120) as browser:
        yield browser


@pytest.fixture(scope="session")
def long_file(tmp_path_factory) -> Path:
    """Ten minutes of noise, as loud as speech."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    sf.write(path, 0.1 * np.random.default_rng(0).standard_normal(600 * 16000).clip(-3, 3), 16000)
    return path
