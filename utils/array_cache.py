"""Arrays that were computed once, kept in a folder for later runs and for other processes."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import numpy as np

from utils.errors import describe
from utils.files import read_arrays, write_arrays

log = logging.getLogger(__name__)


class ArrayCache:
    """int32 arrays under keys, a file each: ``folder/key.npz``, with a checksum.

    The same key must always mean the same content. A file has its name only when it is whole, so any number of
    processes may use the folder at once. One that cannot be read or written costs time, never the run.

    Args:
        folder: made when it is missing.

    Raises:
        OSError: nothing can be written there.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=self.folder).close()  # refuse now what would only fail later
        self._has_failed = False

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def read(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """The array of a key; None if there is none that is whole and has this shape, which the log then says."""
        try:
            array = read_arrays(self.path(key)).get("array", np.empty(0))
            if (array.dtype, array.shape) != (np.int32, shape):
                raise ValueError(f"{self.path(key)} holds {array.dtype} {array.shape}, not int32 {shape}")
            return array
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("made anew: %s", describe(error))
            return None

    def write(self, key: str, array: np.ndarray) -> None:
        """Keep an array. Of failures, only the first is told in the log."""
        try:
            write_arrays(self.path(key), {"array": array.astype(np.int32)})
        except OSError as error:
            if not self._has_failed:
                log.warning("%s cannot be written: %s", self.path(key), describe(error))
            self._has_failed = True
