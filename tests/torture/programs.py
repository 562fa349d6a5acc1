"""The project's programs in processes of their own, which can be killed: forked from one that has imported all.

Starting Python and torch takes seconds, a fork some milliseconds; so a program can be killed at a hundred moments.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.processes import descendants, is_alive
from tests.toy import ROOT

PRELOADED = ["tests.torture.preloaded"]


@functools.cache
def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class Program:
    """A program that runs, with all the processes that it starts, in a group of its own.

    Args:
        command: the program, such as ``train.py``, and its arguments.
        said: file of what it prints.
        before: dotted name of a function that is called in the new process before the program.
        cwd: the folder that it runs in.
        environment: what is more in its environment.
    """

    def __init__(
        self,
        *command: object,
        said: Path,
        before: str = "",
        cwd: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ):
        self.said = said
        said.parent.mkdir(parents=True, exist_ok=True)
        words = [str(part) for part in command]
        self._process = _context().Process(
            target=_run, args=(words, str(said), before, str(cwd), dict(environment or {}))
        )
        self._process.start()
        self.pid = self._process.pid

    def send(self, number: int, *, group: bool = True) -> None:
        """A signal to all its processes, or to the first alone."""
        try:
            (os.killpg if group else os.kill)(self.pid, number)
        except ProcessLookupError:  # it has ended, or its group is not yet made
            if is_alive(self.pid):
                os.kill(self.pid, number)

    def is_running(self) -> bool:
        return self._process.is_alive()

    def wait(self, seconds: float = 300.0) -> int:
        """Its exit status, minus the signal's number if it was killed.

        Raises:
            AssertionError: it takes longer; it is killed then.
        """
        self._process.join(seconds)
        if self._process.exitcode is None:
            self.send(signal.SIGKILL)
            self._process.join()
            raise AssertionError(f"it did not end within {seconds} s; it said: {self.text()[-2000:]}")
        return self._process.exitcode

    def children(self) -> list[int]:
        return descendants(self.pid)

    def text(self) -> str:
        return self.said.read_text(errors="replace") if self.said.exists() else ""


def run(*command: object, said: Path, seconds: float = 300.0, before: str = "") -> Program:
    """Run a program to its end. Raises AssertionError with what it said if its exit status is not 0."""
    program = Program(*command, said=said, before=before)
    status = program.wait(seconds)
    assert status == 0, f"exit status {status}: {program.text()[-3000:]}"
    return program


def forked(function: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    """A process, already started, that calls a function of a module with plain arguments."""
    process = _context().Process(target=function, args=arguments)
    process.start()
    return process


def _run(words: list[str], said: str, before: str, cwd: str, environment: dict[str, str]) -> None:
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # as in a program of its own
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1), os.dup2(file, 2)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
    os.chdir(cwd)
    os.environ.update(environment)
    if before:
        module, _, name = before.rpartition(".")
        getattr(importlib.import_module(module), name)()
    name, *arguments = words
    sys.exit(importlib.import_module(name.removesuffix(".py").replace("/", ".")).main(arguments))


def gone(pids: list[int], seconds: float) -> None:
    """Wait until none of these processes lives. Raises AssertionError if one still does."""
    until = time.monotonic() + seconds
    while left := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < until, f"these processes live on: {left}"
        time.sleep(0.05)
