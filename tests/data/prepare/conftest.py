"""Fixtures of the downloads' tests."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from data.prepare import fetch
from tests.data.prepare.file_server import Server


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server that is running, and no waiting for another attempt."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    disable_progress_bars()
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    enable_progress_bars()


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "public"
