"""The folder of a corpus that is made of arguments: whole, begun, or something else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from utils.files import write_json


class CorpusFolder:
    """A folder with ``NAME.json``, written last, and ``.NAME.unfinished.json`` while the corpus is being made.

    Args:
        path: a new or empty folder, or one in which a corpus was begun or made.
        name: of the kind of corpus.

    Attributes:
        lock: the name of the file by which a run may hold the folder, see ``utils.folder_lock``.
    """

    def __init__(self, path: str | os.PathLike, name: str):
        self.path = Path(path).absolute()
        self.manifest = self.path / f"{name}.json"
        self.unfinished = self.path / f".{name}.unfinished.json"
        self.lock = f".{name}.lock"

    def is_there(self, arguments: Mapping[str, object]) -> bool:
        """True: complete. False: nothing there, or an unfinished run with the same arguments.

        Raises:
            ValueError: other arguments, or something else is there.
        """
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            raise ValueError(f"--output {self.path} is a file: give a new or empty folder")
        for place in (self.manifest, self.unfinished):
            found = _arguments_in(place)
            if found is None:
                continue
            changed = [
                f"{key} {found.get(key)}, not {value}" for key, value in arguments.items() if found.get(key) != value
            ]
            if changed:
                raise ValueError(
                    f"{self.path} was made with other arguments ({'; '.join(changed)}): delete it, or give another "
                    "--output"
                )
            return place == self.manifest
        if any(path.name != self.lock for path in self.path.iterdir()):
            raise ValueError(
                f"{self.path} is not empty, and not a corpus made here: give a new or empty folder as --output"
            )
        return False

    def begin(self, arguments: Mapping[str, object]) -> None:
        """Say that the corpus is being made, and remove what an earlier run did not finish writing."""
        write_json(self.unfinished, {"arguments": dict(arguments)})
        for path in self.path.rglob(".*"):  # the names of temporary files begin with a dot
            if path.is_file() and path.name not in (self.unfinished.name, self.lock):
                path.unlink()

    def finish(self, manifest: Mapping[str, object]) -> None:
        """Say that it is complete."""
        write_json(self.manifest, manifest)
        self.unfinished.unlink()


def _arguments_in(path: Path) -> dict | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["arguments"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or somebody else's of that name
        return None
