"""Fixtures of all tests."""
# ruff: noqa: E402

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from multiprocessing import popen_spawn_posix

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell sets it for what it starts with &; tests send Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as in train.py
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network
# The reference's numbers were made with two threads; with others, the last bits differ. In the environment, so that a
# program that is called in this process takes no more on a machine with more cores than one started beside it.
os.environ["OMP_NUM_THREADS"] = "2"

import pytest
import torch

from tests.toy import RECIPE, settings
from utils.recipe import Recipe


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests last, each kind in its order: what is wrong shows early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def only_slow_tests_start_python(request, monkeypatch) -> None:
    """Starting Python and torch takes seconds, so a test that does it says so: ``@pytest.mark.slow``."""
    if request.node.get_closest_marker("slow"):
        return

    def refuse(*_: object) -> None:
        pytest.fail("this test starts a Python process: mark it slow", pytrace=False)

    start = subprocess.Popen.__init__

    def guarded(self, args, *more, **options) -> None:
        if isinstance(args, list | tuple) and args and str(args[0]) == sys.executable:
            refuse()
        start(self, args, *more, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", guarded)
    monkeypatch.setattr(popen_spawn_posix.Popen, "_launch", refuse)


@pytest.fixture
def no_room():
    """A disk with room for no more than so many bytes of a file, for as long as the context that it gives."""

    @contextlib.contextmanager
    def limited(size: int):
        before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)

    return limited


@pytest.fixture(autouse=True, scope="session")
def two_threads() -> None:
    """Also where the environment's number is more than the cores."""
    torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(two_threads):
    """A number of threads that a test leaves to those after it changes the last bits of what they compute."""
    yield
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    assert threads == 2, f"it leaves {threads} threads to the tests after it: call programs by tests.toy.call"


@pytest.fixture(scope="session")
def tokenizer():
    """The reference's tokenizer."""
    return Recipe(RECIPE, overrides=settings()).build("tokenizer")["tokenizer"]


@pytest.fixture(scope="session")
def vocoder():
    """The reference's vocoder."""
    return Recipe(RECIPE, overrides=settings()).build("vocoder")["vocoder"]
