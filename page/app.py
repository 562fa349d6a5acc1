"""The page itself: what is on it, and what of ``page.visit`` each part of it calls.

Gradio is imported late, since that draws random numbers. It reads the annotations of the functions that it calls, which
must not be texts here: they name what is imported late.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from page.systems import System
from page.visit import OWN, STRETCH, Page

_HERE = Path(__file__).parent
# All that the page shows comes from where it comes from itself.
HEAD = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: "
    'blob:">'
)


def looks() -> dict[str, Any]:
    """How it looks, as ``Blocks.launch`` takes it: with fonts of the machine that shows it."""
    import gradio as gr

    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    theme = gr.themes.Default(primary_hue="blue", **fonts).set(  # colours on which white text can be read
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_dark="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_hover_dark="#991b1b",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
    )
    return {"theme": theme, "css": (_HERE / "page.css").read_text(encoding="utf-8"), "head": HEAD}


def build(page: Page) -> Any:
    """What is on the page, wired to what happens: a ``gradio.Blocks``."""
    import gradio as gr

    def as_it_is(value: object) -> object:
        return gr.skip() if value is None else value

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
        ways = gr.CheckboxGroup([way.name for way in start.ways], value=at_first(start), label="Hear", visible=has_ways)
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

        async def hear_first(path: str | None, title: str, request: gr.Request) -> AsyncIterator[Any]:
            async for says, shows in page.hear_first(path, title, request.session_hash):
                yield as_it_is(says), as_it_is(shows)

        async def hear_second(path: str | None, request: gr.Request) -> Any:
            return as_it_is(await page.hear_second(path, request.session_hash))

        async def work(
            title: str,
            path: str | None,
            voice: str | None,
            voice_is: str,
            start: float | None,
            end: float | None,
            chosen: list[str],
            request: gr.Request,
        ) -> AsyncIterator[Any]:
            given = (title, path, voice, voice_is, start, end, chosen)
            async for says, shows, goes_on in page.work(*given, request.session_hash):
                yield as_it_is(says), as_it_is(shows), gr.Button(interactive=not goes_on), gr.Button(visible=goes_on)

        def choose(title: str, request: gr.Request) -> tuple[Any, ...]:
            system = page.systems[title]
            labels, names = list(system.inputs.values()), [way.name for way in system.ways]
            return (
                system.says,
                gr.Audio(label=labels[0]),
                gr.Column(visible=len(labels) == 2),
                gr.Audio(label=labels[-1]),
                gr.CheckboxGroup(names, value=at_first(system), visible=len(names) > 1),
                gr.Button(system.button),
                gr.Button(visible=bool(system.example)),
                page.choose(title, request.session_hash),
                "",
            )

        def fill(title: str) -> tuple[Any, ...]:
            """The example was pressed."""
            files = list(page.systems[title].example.values())
            return files[0], files[-1] if len(files) == 2 else None, OWN

        def stop(request: gr.Request) -> None:
            page.stop(request.session_hash)

        def leave(request: gr.Request) -> None:
            page.leave(request.session_hash)

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
        first.change(hear_first, [first, menu], [said, view], api_visibility="private", **many)
        second.change(hear_second, second, said, api_visibility="private", **many)
        everything = [menu, first, second, source, since, until, ways]
        shown = [said, view, go, halt]
        go.click(work, everything, shown, api_visibility="private", trigger_mode="once", **many)
        example.click(fill, menu, [first, second, source], **at_once).then(
            work, everything, shown, api_visibility="private", **many
        )
        halt.click(stop, None, None, **at_once)
        blocks.unload(leave)
    return blocks


def at_first(system: System) -> list[str]:
    """The ways to run a system that are chosen at the start."""
    return [way.name for way in system.ways if way.chosen]
