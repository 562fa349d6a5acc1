"""Where a run tells what it does: the console, a text file, JSON lines and TensorBoard. Only the main process tells."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from utils.files import naming

if TYPE_CHECKING:  # imports torch, which not every program needs
    from utils.task import Media

_OURS = ("data", "models", "modules", "utils", "running", "evaluation", "page", "train", "inference", "evaluate")


class _TqdmHandler(logging.Handler):
    """Prints above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def setup_console(*, main: bool = True, file: Path | None = None) -> None:
    """Show the program's messages on the console, and append them to a file. Other processes show warnings only."""
    handlers: list[logging.Handler] = [_TqdmHandler()]
    handlers[0].setFormatter(logging.Formatter("%(message)s"))
    handlers[0].setLevel(logging.INFO)
    if file is not None and main:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
        handlers[1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO if main else logging.WARNING)
    logging.getLogger("utils.errors").setLevel(logging.DEBUG)  # tracebacks, which are for the file alone


class RunLog:
    """Metrics of a training run, as ``metrics.jsonl`` and for TensorBoard in one folder.

    Args:
        folder: made when it is missing.
        first_step: where this run starts. TensorBoard drops what an earlier run logged beyond, and computes again.
    """

    def __init__(self, folder: Path, *, first_step: int = 0):
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only the main process needs it

        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.jsonl"
        self._lines = open(self._path, "a", encoding="utf-8", buffering=1)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step or None)

    def metrics(self, kind: str, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """One line, and one point in each curve ``kind/name``."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        line = {"kind": kind, "step": step, "epoch": epoch, **finite, "time": round(time.time(), 3)}
        with naming(self._path):
            self._lines.write(json.dumps(line) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def media(self, media: Media, *, step: int) -> None:
        """Examples to hear and to see in TensorBoard."""
        for name, wav in media.audio.items():
            self._board.add_audio(name, wav.float().cpu()[None], step, sample_rate=media.sample_rate)
        for name, image in media.images.items():
            self._board.add_image(name, image.cpu(), step)

    def close(self) -> None:
        with naming(self._path):  # what could not be written is tried again here
            self._lines.close()
        self._board.close()


class NoLog:
    """What the other processes write into."""

    def metrics(self, kind: str, values: Mapping[str, float], *, step: int, epoch: int) -> None: ...

    def media(self, media: Media, *, step: int) -> None: ...

    def close(self) -> None: ...
