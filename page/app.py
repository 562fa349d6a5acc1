"""The page itself: what is on it, and what happens when something is dropped or pressed."""

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

import gradio as gr

from page.line import Line, Stopped, Task
from page.room import Room, Rooms
from page.sound import Limits, Shown, cut_stretch, require_within, show
from page.systems import System, Way
from page.work import Programs, Watch, run
from utils.errors import USER_ERRORS, describe

OWN, STRETCH = "a recording of its own", "a stretch of the recording"
_LOOK = 0.2  # seconds between two looks at what is being done
_LONG = 5.0  # seconds after which it is told how long it may take
_HERE = Path(__file__).parent
log = logging.getLogger(__name__)

# All that the page shows comes from where it comes from itself.
HEAD = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: "
    "blob:; connect-src 'self' data: blob: ws: wss:\">"
)
CSS = (_HERE / "page.css").read_text(encoding="utf-8")


def theme() -> gr.themes.Base:
    """With fonts of the machine that shows the page."""
    return gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


class Page:
    """All tabs of the page.

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

    async def hear_first(self, path: str | None, title: str, request: gr.Request) -> AsyncIterator[tuple[Any, Any]]:
        """A recording was given: check it, and show it."""
        room = self.rooms.of(request.session_hash)
        if path is not None and path == room.path:  # the example's button was quicker
            yield gr.skip(), self._view(room, title)
            return
        room.path, room.first, room.results = path, None, ()
        if path is None:
            yield "", self._view(room, title)
            return
        room.adopt(path)
        yield message("reads it"), self._view(room, title)
        said = ""
        try:
            require_within(path, self.limits)
            shown = await asyncio.to_thread(show, path, Path(path).name, room.new_folder())
            if room.path == path and room.first is None:
                room.first = shown
        except (*USER_ERRORS, Stopped) as error:
            said = told(room, error)
        is_busy = room.task is not None and not room.task.done.is_set()
        yield gr.skip() if is_busy else said, self._view(room, title)

    async def hear_second(self, path: str | None, request: gr.Request) -> str:
        """The recording of a voice was given: check it."""
        room = self.rooms.of(request.session_hash)
        if path is None:
            return ""
        room.adopt(path)
        try:
            require_within(path, self.limits)
        except USER_ERRORS as error:
            return told(room, error)
        return ""

    async def work(
        self,
        title: str,
        first: str | None,
        second: str | None,
        source: str,
        start: float | None,
        end: float | None,
        chosen: Sequence[str],
        request: gr.Request,
    ) -> AsyncIterator[tuple[Any, ...]]:
        """The button was pressed: wait in the line, then say how far it is, and show what came of it."""
        room = self.rooms.of(request.session_hash)
        system = self.systems[title]
        for path in filter(None, (first, second)):
            room.adopt(path)
        try:
            ways = [way for way in system.ways if len(system.ways) == 1 or way.name in chosen]
            inputs = self._inputs(system, room, first, second, source, start, end)
            if not ways:
                raise ValueError("nothing is chosen: tick one or more of the boxes")
            task = room.task = self.line.add(lambda task: self._do(task, system, ways, inputs, room))
        except USER_ERRORS as error:
            yield told(room, error), gr.skip(), gr.skip(), gr.skip()
            return
        said, room.path = None, first
        while not task.done.is_set():
            if (now := self._how_far(task)) != said:
                said = now
                yield said, gr.skip(), gr.Button(interactive=False), gr.Button(visible=True)
            await asyncio.sleep(_LOOK)
        if task.error is None:
            room.first, room.results, notes = task.result
            seconds = sum(one.seconds for one in room.results)
            said = message(". ".join([f"done: {seconds:.1f} s of sound in {task.seconds:.1f} s", *notes]))
        else:
            said = told(room, task.error)
        yield said, self._view(room, title), gr.Button(interactive=True), gr.Button(visible=False)

    def stop(self, request: gr.Request) -> None:
        """The other button was pressed."""
        task = self.rooms.of(request.session_hash).task
        if task is not None:
            task.stop()

    def leave(self, request: gr.Request) -> None:
        """The tab was closed."""
        self.rooms.leave(request.session_hash, self.uploaded)

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
        require_within(second, self.limits)
        return {roles[0]: first, roles[1]: second}

    def _do(
        self, task: Task, system: System, ways: Sequence[Way], inputs: Mapping[str, str], room: Room
    ) -> tuple[Shown, list[Shown], list[str]]:
        """The recording, what came of it, and what the log had to say of the files."""
        path, folder = next(iter(inputs.values())), room.new_folder()
        given, first = Path(path), room.first
        if first is None or room.path != path:
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

    def _view(self, room: Room, title: str) -> dict[str, Any]:
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
        return f"the person is there: {row['score']:.2f} of 1"
    return ""


def message(text: str, *, progress: float | None = None, kind: str = "status") -> str:
    """What the page says, as HTML."""
    bar = "" if progress is None else f'<progress max="1" value="{progress:.3f}"></progress>'
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


def build(page: Page) -> gr.Blocks:
    """What is on the page, wired to what happens."""
    titles = list(page.systems)
    start = page.systems[titles[0]]
    names = list(start.inputs.values())
    audio = {"type": "filepath", "sources": ["upload", "microphone"], "buttons": [], "editable": False}
    plain = gr.WaveformOptions(show_recording_waveform=False)  # a long file is not read into the browser's memory
    has_second, has_ways = len(names) == 2, len(start.ways) > 1
    with gr.Blocks(title="Speech in discrete tokens", analytics_enabled=False) as blocks:
        gr.HTML("<h1>Speech in discrete tokens: try it</h1>", elem_classes="head")
        menu = gr.Dropdown(titles, value=titles[0], label="System", elem_id="menu", filterable=False)
        says = gr.Markdown(start.says, elem_id="says")
        with gr.Row(elem_id="given"):
            with gr.Column(min_width=300):
                first = gr.Audio(label=names[0], elem_id="first", waveform_options=plain, **audio)
            with gr.Column(min_width=300, visible=has_second) as other:
                source = gr.Radio([OWN, STRETCH], value=OWN, label="The voice is", elem_id="source")
                second = gr.Audio(label=names[-1], elem_id="second", waveform_options=plain, **audio)
                with gr.Row(visible=False) as stretch:
                    since = gr.Number(label="from second", minimum=0, elem_id="since", min_width=100)
                    until = gr.Number(label="to second", minimum=0, elem_id="until", min_width=100)
        chosen = [way.name for way in start.ways if way.chosen]
        ways = gr.CheckboxGroup([way.name for way in start.ways], value=chosen, label="Hear", visible=has_ways)
        with gr.Row(elem_id="buttons"):
            go = gr.Button(start.button, variant="primary", elem_id="go")
            halt = gr.Button("Stop", variant="stop", visible=False, elem_id="halt")
            example = gr.Button("Try the example", visible=bool(start.example), elem_id="example")
        said = gr.HTML("", elem_id="said")
        view = gr.HTML(
            {"markable": has_second, "signals": []},
            html_template='<div class="view"></div>',
            css_template=(_HERE / "view.css").read_text(encoding="utf-8"),
            js_on_load=(_HERE / "view.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id="view",
        )
        limits = page.limits
        gr.HTML(
            f"<p>Files of up to {limits.megabytes:g} MB and {limits.minutes:g} minutes; wav, flac, ogg, mp3. Nothing "
            "leaves the machine that this page comes from, and nothing is kept there once the page is closed.</p>",
            elem_classes="foot",
        )

        def choose(title: str, request: gr.Request) -> tuple[Any, ...]:
            """Another system was chosen."""
            system, room = page.systems[title], page.rooms.of(request.session_hash)
            labels, room.results = list(system.inputs.values()), ()
            many = [way.name for way in system.ways]
            at_first = [way.name for way in system.ways if way.chosen]
            return (
                system.says,
                gr.Audio(label=labels[0]),
                gr.Column(visible=len(labels) == 2),
                gr.Audio(label=labels[-1]),
                gr.CheckboxGroup(many, value=at_first, visible=len(many) > 1),
                gr.Button(system.button),
                gr.Button(visible=bool(system.example)),
                page._view(room, title),
                "",
            )

        def fill(title: str) -> tuple[Any, ...]:
            """The example was pressed."""
            files = list(page.systems[title].example.values())
            return files[0], files[-1] if len(files) == 2 else None, OWN

        def mark(event: gr.EventData) -> tuple[Any, ...]:
            """A stretch was marked on the spectrogram."""
            return STRETCH, event.start, event.end

        at_once = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        many = {"concurrency_limit": None, "show_progress": "hidden"}
        menu.change(choose, menu, [says, first, other, second, ways, go, example, view, said], **at_once)
        source.change(
            lambda which: (gr.Audio(visible=which == OWN), gr.Row(visible=which == STRETCH)),
            source,
            [second, stretch],
            **at_once,
        )
        view.mark(mark, None, [source, since, until], **at_once)
        first.change(page.hear_first, [first, menu], [said, view], api_visibility="private", **many)
        second.change(page.hear_second, second, said, api_visibility="private", **many)
        everything = [menu, first, second, source, since, until, ways]
        shown = [said, view, go, halt]
        go.click(page.work, everything, shown, api_visibility="private", trigger_mode="once", **many)
        example.click(fill, menu, [first, second, source], **at_once).then(
            page.work, everything, shown, api_visibility="private", **many
        )
        halt.click(page.stop, None, None, **at_once)
        blocks.unload(page.leave)
    return blocks
