"""Where a run tells what it does: the console, a text file, JSON lines and TensorBoard. Only the main process tells."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from utils.files import unwritten

if TYPE_CHECKING:  # imports torch, which not every program needs
    from utils.task import Media

_OURS = ("data", "models", "modules", "utils", "running", "evaluation", "page", "train", "inference", "evaluate")


class _TqdmHandler(logging.Handler):
    """Prints above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class _FileHandler(logging.FileHandler):
    """Tells once, in a line on the console, that nothing can be written to its file; the program goes on."""

    is_told = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not self.is_told and isinstance(error, OSError):
            self.is_told = True
            tqdm.write(f"warning: {unwritten(self.baseFilename, error)}", file=sys.stderr)
        elif not self.is_told:
            super().handleError(record)


def setup_console(*, main: bool = True, file: Path | None = None) -> None:
    """Show the program's messages on the console, and append them to a file. Other processes show warnings only."""
    handlers: list[logging.Handler] = [_TqdmHandler()]
    handlers[0].setFormatter(logging.Formatter("%(message)s"))
    handlers[0].setLevel(logging.INFO)
    if file is not None and main:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_FileHandler(file, encoding="utf-8"))
        handlers[1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO if main else logging.WARNING)
    logging.getLogger("utils.errors").setLevel(logging.DEBUG)  # tracebacks, which are for the file alone


class RunLog:
    """Metrics of a training run, as ``metrics.jsonl`` and for TensorBoard in one folder.

    All raise an OSError that names the file and the free space where nothing can be written.

    Args:
        folder: made when it is missing.
        first_step: where this run starts. TensorBoard drops what an earlier run logged beyond, and computes again.
    """

    def __init__(self, folder: Path, *, first_step: int = 0):
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only the main process needs it

        _leave_to_the_next_point()
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._board_path = folder / "metrics.jsonl", folder / "tensorboard"
        self._lines = open(self._path, "a", encoding="utf-8", buffering=1)
        with _telling(self._board_path):
            self._board = SummaryWriter(str(self._board_path), purge_step=first_step or None)

    def metrics(self, kind: str, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """One line, and one point in each curve ``kind/name``."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        line = {"kind": kind, "step": step, "epoch": epoch, **finite, "time": round(time.time(), 3)}
        with _telling(self._path):
            self._lines.write(json.dumps(line) + "\n")
        with _telling(self._board_path):
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def media(self, media: Media, *, step: int) -> None:
        """Examples to hear and to see in TensorBoard."""
        with _telling(self._board_path):
            for name, wav in media.audio.items():
                self._board.add_audio(name, wav.float().cpu()[None], step, sample_rate=media.sample_rate)
            for name, image in media.images.items():
                self._board.add_image(name, image.cpu(), step)

    def close(self) -> None:
        try:
            with _telling(self._path):  # what could not be written is tried again here
                self._lines.close()
        finally:
            with _telling(self._board_path):
                self._board.close()


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritten(path, error) from error


@functools.cache
def _leave_to_the_next_point() -> None:
    """TensorBoard writes in a thread. An error there comes out of the next point as well: say it once, there."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not (type(arguments.thread).__module__.startswith("tensorboard.") and arguments.exc_type is OSError):
            before(arguments)

    threading.excepthook = hook


class NoLog:
    """What the other processes write into."""

    def metrics(self, kind: str, values: Mapping[str, float], *, step: int, epoch: int) -> None: ...

    def media(self, media: Media, *, step: int) -> None: ...

    def close(self) -> None: ...
