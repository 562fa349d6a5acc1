"""What the page keeps of one open tab, until that is closed."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from page.line import Stopped, Task
from page.sound import Shown


@dataclass
class Room:
    """One tab.

    Attributes:
        folder: of all its files but uploads.
        uploads: files that were given, and what they are called.
        task: the work that was asked for last.
        path: of the recording.
        first: the recording, as it is shown.
        results: what came of it.
    """

    folder: Path
    uploads: dict[str, str] = field(default_factory=dict)
    task: Task | None = None
    path: str | None = None
    first: Shown | None = None
    results: Sequence[Shown] = ()
    is_closed: bool = False
    _made: int = 0

    def new_folder(self) -> Path:
        """Of one step's files. Raises ``Stopped`` if the tab was closed."""
        self.require_open()
        self._made += 1
        made = self.folder / str(self._made)
        made.mkdir(parents=True)
        return made

    def require_open(self) -> None:
        """Raise ``Stopped`` if the tab was closed; what was written meanwhile goes too."""
        if self.is_closed:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise Stopped

    @property
    def is_busy(self) -> bool:
        """Whether something is being done, or waits."""
        return self.task is not None and not self.task.done.is_set()

    def adopt(self, path: str) -> None:
        """A file that was given here, which goes when the room does."""
        self.uploads[path] = Path(path).name

    def plainly(self, said: str) -> str:
        """A sentence with files by the names that the person knows."""
        for path, name in sorted(self.uploads.items(), key=lambda item: -len(item[0])):
            said = said.replace(path, name)
        return said

    def view(self, *, is_markable: bool) -> dict[str, Any]:
        """What page/view.js shows."""
        shown = [] if self.first is None else [self.first, *self.results]
        return {
            "markable": is_markable,
            "signals": [
                {
                    "name": one.name,
                    "seconds": one.seconds,
                    "sound": _address(one.sound),
                    "picture": _address(one.picture),
                    "note": one.note,
                    "file": one.file,
                }
                for one in shown
            ],
        }

    def close(self, uploaded: Path) -> None:
        """Stop what is done here, and remove all files.

        Args:
            uploaded: the folder in which each upload has one of its own.
        """
        self.is_closed = True
        if self.task is not None:
            self.task.stop()
            self.task.done.wait()  # it may write until then
        shutil.rmtree(self.folder, ignore_errors=True)
        for path in map(Path, self.uploads):
            if uploaded in path.parents:
                path.unlink(missing_ok=True)
                if path.parent != uploaded and path.parent.is_dir() and not any(path.parent.iterdir()):
                    path.parent.rmdir()


class Rooms:
    """The rooms of all tabs, by the name of the session.

    Args:
        folder: below which each has its own.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._rooms: dict[str, Room] = {}
        self._lock = threading.Lock()

    def of(self, session: str) -> Room:
        with self._lock:
            if session not in self._rooms:
                made = self.folder / secrets.token_hex(16)  # the session's name comes from outside
                made.mkdir()
                self._rooms[session] = Room(made)
            return self._rooms[session]

    def leave(self, session: str, uploaded: Path) -> None:
        """Close a room, if there is one. A file that another tab was given too stays for that."""
        with self._lock:
            room = self._rooms.pop(session, None)
            others = {path for other in self._rooms.values() for path in other.uploads}
        if room is not None:
            room.uploads = {path: name for path, name in room.uploads.items() if path not in others}
            room.close(uploaded)


def _address(path: str) -> str:
    return f"gradio_api/file={quote(path)}"
