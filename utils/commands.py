"""Other programs, run one after the other, with their command lines shown."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def step(title: str) -> None:
    """Say what comes next."""
    print(f"\n== {title}", flush=True)


def overrides(values: Mapping[str, object]) -> list[str]:
    """``--override KEY=VALUE`` for each."""
    return [text for key, value in values.items() for text in ("--override", f"{key}={value}")]


def run(*command: object) -> None:
    """Run a program of this project, and show its command line.

    Ctrl-C and SIGTERM are for the program, which may have to save: they are passed on to it, and waited for. It does
    not outlive this process: on Linux, it gets a SIGTERM when this one ends, be it by SIGKILL.

    Raises:
        SystemExit: it failed, or was asked to stop; with its exit status.
    """
    arguments = [str(part) for part in command]
    print("$ python " + shlex.join(arguments), flush=True)
    process: subprocess.Popen | None = None
    early: list[int] = []

    def pass_on(number: int, frame: object = None) -> None:
        if process is None:
            early.append(number)
        elif process.poll() is None:
            # A terminal's Ctrl-C reaches all of a program's processes, and so this one does.
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            process_group=0,  # the terminal's Ctrl-C comes once, from here
            preexec_fn=_end_with(os.getpid()),
        )
        for number in early:
            pass_on(number)
        status = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if status:
        raise SystemExit(status if status > 0 else 128 - status)


def _end_with(parent: int) -> Callable[[], None] | None:
    """What a new process calls to get a SIGTERM when its parent ends; None where the system has no such thing."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)

    return ask
