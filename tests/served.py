"""A server of the page, with a small system of the tests first in its menu."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.browser import CHROMIUM
from tests.processes import wait_for
from tests.toy import REFERENCE, ROOT, flags

MINUTES, MEGABYTES = 12, 30  # limits of the server

# Ends the server when the process that started it is gone, also where that is killed and no fixture ends.
_WITH_US = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"


def why_not() -> str | None:
    """Why the page cannot be shown here."""
    if importlib.util.find_spec("gradio") is None:
        return "Gradio is not installed: requirements-page.txt"
    if CHROMIUM is None:
        return "Chromium is not installed: apt-get install chromium"
    return None


@dataclass
class Server:
    """Attributes: its address, its process, the folder in which it keeps its own, and what it has said so far."""

    address: str
    process: subprocess.Popen
    folder: Path
    said: list[str]

    def files(self) -> list[Path]:
        """All that it keeps of people."""
        return [path for path in self.folder.rglob("*") if path.is_file() and path.name != ".in-use"]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """It runs while the context does, and keeps its files below ``folder``; in the end it must leave none."""
    limits = ("--max-minutes", MINUTES, "--max-mb", MEGABYTES)
    own = ("-config", "config/tselm_l.yaml", "-ckpt", REFERENCE / "tselm.pth", *flags())
    command = ("serve.py", "--port", "0", "--device", "cpu", "--threads", "2", *limits, *own)
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", _WITH_US, sys.executable, *map(str, command)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(iter(process.stderr.readline, "")), daemon=True)
    reader.start()
    try:
        wait_for(lambda: process.poll() is not None or any("http://" in line for line in said), seconds=240)
        assert process.poll() is None, "".join(said)
        yield Server(re.search(r"http://\S+:\d+", "".join(said))[0], process, folder, said)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, "".join(said)
        wait_for(lambda: not list(folder.iterdir()))
        assert not [line for line in said if "Traceback" in line or "fault" in line], "".join(said)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(10)
        process.stderr.close()
