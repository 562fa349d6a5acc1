"""Other programs, run one after the other, with their command lines shown."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping


def step(title: str) -> None:
    """Say what comes next."""
    print(f"\n== {title}", flush=True)


def overrides(values: Mapping[str, object]) -> list[str]:
    """``--override KEY=VALUE`` for each."""
    return [text for key, value in values.items() for text in ("--override", f"{key}={value}")]


def run(*command: object) -> None:
    """Run a program of this project, and show its command line. Ctrl-C is for the program, which may have to save.

    Raises:
        SystemExit: it failed; with its exit status.
    """
    arguments = [str(part) for part in command]
    print("$ python " + shlex.join(arguments), flush=True)
    process = subprocess.Popen([sys.executable, *arguments])
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = process.wait()
    finally:
        signal.signal(signal.SIGINT, previous)
    if status:
        raise SystemExit(status)
