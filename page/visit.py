"""What happens on the page when something is dropped or pressed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from page.line import Line, Stopped, Task
from page.room import Room, Rooms
from page.sound import Limits, Shown, cut_stretch, require_voice, require_within, show
from page.systems import System, Way
from page.work import Programs, Watch, run
from utils.errors import USER_ERRORS, describe

OWN, STRETCH = "a recording of its own", "a stretch of the recording"  # where a voice is taken from
_LOOK = 0.2  # seconds between two looks at what is being done
_LONG = 5.0  # seconds after which it is told how long it may take
View = dict[str, Any]
log = logging.getLogger(__name__)


class Page:
    """All tabs of the page, each by the name of its session, and what happens in them.

    What is said is HTML, what is shown is for page/view.js; None leaves either as it is.

    Args:
        systems: by title; the first is chosen at the start.
        folder: for all files.
        programs: load what the systems run.
        limits: of what is taken.
    """

    def __init__(self, systems: Mapping[str, System], folder: Path, programs: Programs, limits: Limits):
        self.systems, self.programs, self.limits = systems, programs, limits
        self.uploaded = folder / "uploads"
        self.uploaded.mkdir()
        self.line, self.rooms = Line(), Rooms(folder)

    # ---- what happens ------------------------------------------------------------------------------------------------

    async def hear_first(self, path: str | None, title: str, session: str) -> AsyncIterator[tuple[str | None, View]]:
        """A recording was given: check it, and show it."""
        room = self.rooms.of(session)
        if path is not None and path == room.path:  # the example's button was quicker
            yield None, self._view(room, title)
            return
        room.path, room.first, room.results = path, None, ()
        if path is None:
            yield "", self._view(room, title)
            return
        room.adopt(path)
        yield message("reads it"), self._view(room, title)
        said = ""
        try:
            await asyncio.to_thread(require_within, path, self.limits)
            name, folder = Path(path).name, room.new_folder()
            shown = await asyncio.to_thread(show, path, name, folder, check=lambda part: room.require_open())
            room.require_open()
            if room.path == path and room.first is None:
                room.first = shown
        except (*USER_ERRORS, Stopped) as error:
            said = told(room, error)
        yield None if room.is_busy else said, self._view(room, title)

    async def hear_second(self, path: str | None, session: str) -> str | None:
        """The recording of a voice was given: check it."""
        room = self.rooms.of(session)
        nothing = None if room.is_busy else ""
        if path is None:
            return nothing
        room.adopt(path)
        try:
            await asyncio.to_thread(require_voice, path, self.limits)
        except USER_ERRORS as error:
            return told(room, error)
        return nothing

    async def work(
        self,
        title: str,
        first: str | None,
        second: str | None,
        source: str,
        start: float | None,
        end: float | None,
        chosen: Sequence[str],
        session: str,
    ) -> AsyncIterator[tuple[str, View | None, bool]]:
        """The button was pressed: wait in the line, say how far it is, and show what came of it.

        Yields:
            What is said, what is shown, and whether it goes on.
        """
        room = self.rooms.of(session)
        system = self.systems[title]
        if room.is_busy:
            yield message("error: something is being done already: stop it first", kind="alert"), None, True
            return
        for path in filter(None, (first, second)):
            room.adopt(path)
        try:
            ways = [way for way in system.ways if len(system.ways) == 1 or way.name in chosen]
            inputs = await asyncio.to_thread(self._inputs, system, room, first, second, source, start, end)
            if not ways:
                raise ValueError("nothing is chosen: tick one or more of the boxes")
            task = room.task = self.line.add(lambda task: self._do(task, system, ways, inputs, room))
        except (*USER_ERRORS, Stopped) as error:
            yield told(room, error), None, False
            return
        said, room.path = None, first
        while not task.done.is_set():
            if (now := self._how_far(task)) != said:
                said = now
                yield said, None, True
            await asyncio.sleep(_LOOK)
        if task.error is None:
            room.path, (room.first, room.results, notes) = first, task.result
            seconds = sum(one.seconds for one in room.results)
            said = message(". ".join([f"done: {seconds:.1f} s of sound in {task.seconds:.1f} s", *notes]))
        else:
            said = told(room, task.error)
        yield said, self._view(room, title), False

    def choose(self, title: str, session: str) -> View:
        """Another system was chosen: the recording stays."""
        room = self.rooms.of(session)
        room.results = ()
        return self._view(room, title)

    def stop(self, session: str) -> None:
        """The other button was pressed."""
        task = self.rooms.of(session).task
        if task is not None:
            task.stop()

    def leave(self, session: str) -> None:
        """The tab was closed."""
        self.rooms.leave(session, self.uploaded)

    def close(self) -> None:
        """Stop all that is being done."""
        self.line.close()

    # ---- how ---------------------------------------------------------------------------------------------------------

    def _inputs(
        self,
        system: System,
        room: Room,
        first: str | None,
        second: str | None,
        source: str,
        start: float | None,
        end: float | None,
    ) -> dict[str, str]:
        """Role -> file. Raises ValueError or OSError: one is missing, or not as it must be."""
        roles = list(system.inputs)
        if first is None:
            raise ValueError(f"there is nothing yet: drop or record the first, {system.inputs[roles[0]]!r}")
        require_within(first, self.limits)
        if len(roles) == 1:
            return {roles[0]: first}
        if source == STRETCH:
            if start is None or end is None:
                raise ValueError("no stretch is marked: drag over the spectrogram, or say from when to when")
            second = str(room.new_folder() / "stretch.wav")
            room.uploads[second] = f"{Path(first).name}, {start:g} to {end:g} s"
            cut_stretch(first, start, end, Path(second))
        elif second is None:
            raise ValueError(
                f"there is no voice yet: drop or record it, {system.inputs[roles[1]]!r}, or mark a stretch"
            )
        require_voice(second, self.limits)
        return {roles[0]: first, roles[1]: second}

    def _do(
        self, task: Task, system: System, ways: Sequence[Way], inputs: Mapping[str, str], room: Room
    ) -> tuple[Shown, list[Shown], list[str]]:
        """The recording, what came of it, and what the log had to say of the files."""
        path, folder = next(iter(inputs.values())), room.new_folder()
        given, first = Path(path), room.first
        if first is None or first.source != path:
            first = show(path, given.name, room.new_folder(), check=lambda part: task.check())
        results = []
        with noted(room) as notes:
            for number, way in enumerate(ways):
                task.doing = "loads the weights"
                program = self.programs.get(system, way)
                output = folder / f"{number}.wav"
                row = run(program, given.name, {**inputs, **way.given}, output, Watch(task, way=number, ways=len(ways)))
                shown = show(output, way.name, room.new_folder(), check=lambda part: task.check())
                file = f"{given.stem}, {way.name}.wav"
                results.append(replace(shown, sound=str(output), file=file, note=note(program.results, row)))
        return first, results, notes

    def _how_far(self, task: Task) -> str:
        if (before := self.line.before(task)) > 0:
            return message(f"waits: {before} before you", progress=0.0)
        if task.begun is None:
            return message("begins", progress=0.0)
        so_far = f"{task.doing or 'begins'}: {100 * task.progress:.0f} %"
        seconds = time.perf_counter() - task.begun
        if seconds > _LONG and task.progress > 0.01:
            left = seconds / task.progress - seconds
            so_far += f", about {left / 60:.0f} minutes left" if left >= 90 else f", about {max(left, 1):.0f} s left"
        return message(so_far, progress=task.progress)

    def _view(self, room: Room, title: str) -> View:
        return room.view(is_markable=len(self.systems[title].inputs) == 2)


@contextlib.contextmanager
def noted(room: Room) -> Iterator[list[str]]:
    """What the log warns of, about the files of a room, meanwhile."""
    found: list[str] = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = record.getMessage()
            if any(path in said for path in room.uploads):
                found.append(room.plainly(said))

    handler = Noting(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger().removeHandler(handler)


def note(results: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """What a system tells of a result beside it: whether the person is there, if it has an opinion."""
    if "presence" in results and "score" in row:
        return f"presence {row['score']:.2f} (0: the person is not there, 1: is)"
    return ""


def message(text: str, *, progress: float | None = None, kind: str = "status") -> str:
    """What the page says, as HTML."""
    bar = "" if progress is None else f'<progress aria-label="how far it is" max="1" value="{progress:.3f}"></progress>'
    return f'<div class="said" role="{kind}"><span>{escape(text)}</span>{bar}</div>' if text else ""


def told(room: Room, error: BaseException) -> str:
    """An error, in the words of the command line."""
    if isinstance(error, Stopped):
        return message("stopped")
    if isinstance(error, MemoryError):
        return message(f"error: there is not enough memory: {describe(error)}", kind="alert")
    if not isinstance(error, USER_ERRORS):
        log.error("a fault of the program:\n%s", "".join(traceback.format_exception(error)))
        return message(f"a fault of the program, {type(error).__name__}: the console says more", kind="alert")
    return message(f"error: {room.plainly(describe(error))}", kind="alert")
