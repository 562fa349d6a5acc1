"""Signals that ask for a stop, and means of the log."""

from __future__ import annotations

import inspect
import os
import signal

import pytest
import torch

from utils import progress
from utils.progress import Averages, Progress, StopRequest

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_to_stop(number: int) -> None:
    """SIGUSR1, a scheduler's warning, ended the training."""
    before, stop = signal.getsignal(number), StopRequest()
    with stop.on_signals(*SIGNALS):
        assert not stop.due(3)
        os.kill(os.getpid(), number)
        assert stop.requested and stop.due(3)
    assert signal.getsignal(number) is before


def test_a_signal_that_is_repeated_is_not_taken_for_impatience(monkeypatch) -> None:
    """A launcher relays what the process group has got already: the second one stopped at once, without saving."""
    stop = StopRequest()
    with stop.on_signals(*SIGNALS):
        for number in (*SIGNALS, *SIGNALS):
            os.kill(os.getpid(), number)
        monkeypatch.setattr(progress, "APART", -1.0)
        os.kill(os.getpid(), signal.SIGTERM)  # a scheduler whose time is over, while the state is being saved
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_during_a_write_does_not_log(capsys) -> None:
    """The handler wrote to the log: in the middle of another write that is a "reentrant call"."""
    stop = StopRequest()
    with stop.on_signals(signal.SIGTERM):
        code = inspect.getsource(StopRequest.on_signals)
        os.kill(os.getpid(), signal.SIGTERM)
    assert capsys.readouterr() == ("", "") and "log." not in code and "print(" not in code


def test_a_signal_that_is_ignored_stays_so() -> None:
    before, stop = signal.signal(signal.SIGUSR1, signal.SIG_IGN), StopRequest()
    try:
        with stop.on_signals(signal.SIGUSR1):
            os.kill(os.getpid(), signal.SIGUSR1)
        assert not stop.requested
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_means_weigh_by_counts() -> None:
    averages = Averages()
    averages.add("a", torch.tensor(6.0), count=3)
    averages.add("a", torch.tensor(2.0), count=torch.tensor(1))
    averages.add("b", torch.tensor(5.0))
    averages.add("c", torch.tensor(0.0), count=0)
    found = averages.pop()
    assert (found["a"], found["b"]) == (2.0, 5.0) and found["c"] != found["c"]
    assert averages.pop() == {}


def test_the_progress_of_an_earlier_version_is_read() -> None:
    found = Progress()
    found.load_state_dict({"epoch": 2, "step_in_epoch": 1, "step": 7, "skipped": 0, "best": 0.5})
    assert (found.epoch, found.best, found.since_best) == (2, 0.5, 0)
