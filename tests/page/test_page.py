"""The page, by what a person does: drop, press, mark, listen, stop, read what is wrong."""

from __future__ import annotations

import io
import json
import shutil
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from data import audio
from models import load_extractor
from tests.browser import Browser
from tests.processes import wait_for
from tests.readable import TEXTS, contrast, luminance
from tests.served import MEGABYTES, MINUTES, Server
from tests.toy import REFERENCE, ROOT, settings

pytestmark = pytest.mark.slow
MIXTURE, VOICE = (REFERENCE / f"test/{kind}/utt0.wav" for kind in ("mix_clean", "aux_s1"))
TOY = ROOT / "pretrained/toy"
FAKE_MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
SAID = "(document.querySelector('#said .said')?.innerText ?? '')"
SIGNALS = "document.querySelectorAll('#view .signal').length"


def open_page(browser, server: Server, *, width: int = 1280, dark: bool = False, system: str | None = None, **more):
    tab = browser.open(server.address, width=width, dark=dark, **more)
    browser.wait("!!document.querySelector('#go') && !!document.querySelector('#first input')")
    if system is not None:
        choose(browser, system)
    return tab


def choose(browser, system: str) -> None:
    """An entry of the menu, by how it begins."""
    browser.click("#menu input")
    entry = f"[...document.querySelectorAll('[role=option]')].find(o => o.innerText.includes({json.dumps(system)}))"
    browser.wait(f"!!{entry}")
    browser.evaluate(f"{entry}.setAttribute('data-wanted', '')")
    browser.click("[data-wanted]")
    browser.wait(f"document.querySelector('#menu input').value.startsWith({json.dumps(system)})")


def drop(browser, where: str, path: Path) -> None:
    browser.drop(f"#{where} button", path)
    browser.wait(f"!!document.querySelector('#{where} audio')")


def give(browser, first: Path, second: Path | None = None) -> None:
    """Drop the recordings, and wait until the first is shown."""
    drop(browser, "first", first)
    browser.wait(f"{SIGNALS} === 1")
    if second is not None:
        drop(browser, "second", second)


def done(browser, *, results: int = 1) -> str:
    """Wait for the end; returns what is said."""
    said = browser.wait(f"/^(done|error|stopped|a fault)/.test({SAID}) && {SAID}")
    assert said.startswith("done"), said
    browser.wait(f"{SIGNALS} === {1 + results}")
    return said


def results(browser) -> list[np.ndarray]:
    """What can be saved."""
    addresses = browser.evaluate("[...document.querySelectorAll('#view a')].map(a => a.href)")
    files = [urllib.request.urlopen(address).read() for address in addresses]
    return [sf.read(io.BytesIO(file), dtype="float32")[0] for file in files]


def extracted(mixture: np.ndarray, voice: np.ndarray) -> np.ndarray:
    """By the small system that the server has first, used from Python."""
    extractor = load_extractor(ROOT / "config/tselm_l.yaml", REFERENCE / "tselm.pth", overrides=settings())
    return extractor.extract(mixture, voice).numpy()


def test_two_files_are_dropped_and_the_voice_is_extracted(browser, server):
    open_page(browser, server)
    give(browser, MIXTURE, VOICE)
    browser.click("#go")
    assert "s of sound in" in done(browser)
    (heard,) = results(browser)
    mixture = audio.read(MIXTURE)
    assert len(heard) == len(mixture)
    np.testing.assert_allclose(heard, extracted(mixture, audio.read(VOICE)).clip(-1, 1), atol=2e-4)
    names = browser.evaluate("[...document.querySelectorAll('#view label')].map(l => l.innerText)")
    assert names == ["utt0.wav", "the result"]
    assert browser.evaluate("document.querySelector('#view a').download") == "utt0, the result.wav"
    pictures = browser.evaluate("[...document.querySelectorAll('#view img')].map(i => [i.naturalWidth, i.clientWidth])")
    assert len(pictures) == 2 and all(natural >= 480 and shown > 600 for natural, shown in pictures)
    assert not server.process.poll()


def test_input_and_result_are_switched_at_the_same_place(browser, server):
    open_page(browser, server)
    give(browser, MIXTURE, VOICE)
    browser.click("#go")
    done(browser)
    playing = "[...document.querySelectorAll('#view audio')].map(a => !a.paused && a.currentTime)"
    browser.evaluate("document.querySelectorAll('#view audio').forEach(a => { a.playbackRate = 0.25 })")
    assert browser.evaluate(playing) == [False, False]
    browser.click("#view .play")
    before = browser.wait(f"{playing}[1] > 0.1 && {playing}[1]")
    browser.click("#view input[type=radio]")
    after = browser.wait(f"{playing}[0]")
    assert browser.evaluate(playing)[1] is False
    assert before <= after < before + 0.5
    assert browser.evaluate("document.querySelector('#view .heard label').innerText") == "utt0.wav"
    browser.click("#view .play")
    assert browser.evaluate(playing) == [False, False]


def test_a_stretch_of_the_recording_is_marked_as_the_voice(browser, server):
    open_page(browser, server)
    give(browser, MIXTURE)
    seconds = len(audio.read(MIXTURE)) / 16000
    left, top, width, height = browser.place("#view .plot")
    y = top + height / 2
    browser.drag((left + 0.25 * width, y), (left + 0.4 * width, y), (left + 0.75 * width, y))
    browser.wait("!!document.querySelector('#until input')?.checkVisibility()")
    start, end = (
        float(browser.evaluate(f"document.querySelector('#{one} input').value")) for one in ("since", "until")
    )
    assert (start, end) == pytest.approx((0.25 * seconds, 0.75 * seconds), abs=0.05)
    browser.click("#go")
    done(browser)
    mixture = audio.read(MIXTURE)
    stretch = mixture[round(start * 16000) : round(end * 16000)]
    np.testing.assert_allclose(results(browser)[0], extracted(mixture, stretch).clip(-1, 1), atol=2e-4)


def test_the_example_of_the_toy_is_extracted_and_nothing_is_asked_of_others(browser, server):
    open_page(browser, server, system="TSELM")
    browser.click("#example")
    done(browser)
    (heard,) = results(browser)
    extractor = load_extractor(ROOT / "config/toy/tselm.yaml", TOY / "tselm.pth")
    inputs = (audio.read(TOY / f"examples/{name}.flac") for name in ("mixture", "enrolment"))
    np.testing.assert_allclose(heard, extractor.extract(*inputs).numpy().clip(-1, 1), atol=2e-3)
    browser.click("#view .play")
    browser.wait("[...document.querySelectorAll('#view audio')].some(a => a.currentTime > 0.1)")
    assert len(browser.requests) > 10
    others = [one for one in browser.requests if not one.startswith((server.address, "data:", "blob:"))]
    assert not others


@pytest.mark.parametrize(
    "system, names",
    [
        ("SpeechTokenizer", ["speech.flac", "1 codebook", "2 codebooks", "4 codebooks", "8 codebooks"]),
        ("Speech resynthesis", ["speech.flac", "voice 1016", "voice 1001"]),
        ("DP-SLM", ["speech.flac", "one way to go on", "another way"]),
        ("LiMuSE", ["two_microphones.flac", "the voice"]),
    ],
)
def test_the_examples_of_the_other_systems(browser, server, system, names):
    open_page(browser, server, system=system)
    browser.click("#example")
    done(browser, results=len(names) - 1)
    assert browser.evaluate("[...document.querySelectorAll('#view label')].map(l => l.innerText)") == names
    heard = results(browser)
    assert all(np.abs(wav).max() > 0.01 for wav in heard)
    for index, one in enumerate(heard):
        assert not any(len(one) == len(other) and (one == other).all() for other in heard[:index])


def test_errors_are_the_sentences_of_the_command_line(browser, server, tmp_path):
    text = tmp_path / "notes.wav"
    text.write_text("This is a text, and no sound.\n" * 20)
    with pytest.raises(ValueError) as error:
        audio.header(text)
    open_page(browser, server)
    browser.click("#go")
    browser.wait(f"{SAID}.startsWith('error: there is nothing yet: drop or record')")
    drop(browser, "first", text)
    sentence = "error: " + str(error.value).replace(str(text), "notes.wav")
    browser.wait(f"{SAID} === {json.dumps(sentence)}")
    assert browser.evaluate(SIGNALS) == 0

    open_page(browser, server)
    give(browser, MIXTURE)
    browser.click("#go")
    browser.wait(f"{SAID}.startsWith('error: there is no voice yet')")

    silent = tmp_path / "silent.wav"
    sf.write(silent, np.zeros(32000), 16000)
    open_page(browser, server)
    give(browser, MIXTURE, silent)
    browser.click("#go")
    browser.wait(f"{SAID}.includes('silent.wav: the enrolment is silent')")
    assert browser.evaluate("document.querySelector('#said [role=alert]') !== null")


def test_limits_are_named(browser, server, tmp_path):
    long = tmp_path / "long.flac"
    sf.write(long, np.zeros(round((MINUTES + 0.5) * 60 * 8000)), 8000)
    open_page(browser, server)
    drop(browser, "first", long)
    browser.wait(f"{SAID}.includes('long.flac is {MINUTES + 0.5} minutes long, and this page takes {MINUTES} at most')")

    heavy = tmp_path / "heavy.wav"
    with open(heavy, "wb") as file:
        file.truncate(round((MEGABYTES + 1) * 1e6))
    open_page(browser, server)
    browser.drop("#first button", heavy)
    browser.wait(
        "document.body.innerText.includes('maximum allowed size') && /heavy.wav/.test(document.body.innerText)"
    )


def test_a_long_one_tells_how_far_it_is_and_is_stopped(browser, server, long_file):
    open_page(browser, server, system="TSELM")
    give(browser, long_file, TOY / "examples/enrolment.flac")
    browser.click("#go")
    browser.wait("document.querySelector('#said progress')?.value > 0")
    assert "hears it" in browser.evaluate(SAID)
    assert browser.evaluate("document.querySelector('#go').disabled")
    browser.click("#halt")
    browser.wait(f"{SAID} === 'stopped'")
    browser.wait("!document.querySelector('#go').disabled && !document.querySelector('#halt')?.checkVisibility()")
    assert not [path for path in server.files() if "partial" in path.name]


def test_who_comes_second_waits_is_told_so_and_gets_his_own(browser, server, long_file):
    first = open_page(browser, server, system="TSELM")
    give(browser, long_file, TOY / "examples/enrolment.flac")
    browser.click("#go")
    browser.wait("!!document.querySelector('#said progress')")
    others = []
    for place, name in enumerate(("utt1", "utt2"), start=1):
        others.append(open_page(browser, server, beside=True))
        give(browser, *(REFERENCE / f"test/{kind}/{name}.wav" for kind in ("mix_clean", "aux_s1")))
        browser.click("#go")
        browser.wait(f"{SAID} === 'waits: {place} before you'")
    browser.switch(first)
    browser.click("#halt")
    browser.wait(f"{SAID} === 'stopped'")
    for tab, name in zip(others, ("utt1", "utt2"), strict=True):
        browser.switch(tab)
        done(browser)
        inputs = (audio.read(REFERENCE / f"test/{kind}/{name}.wav") for kind in ("mix_clean", "aux_s1"))
        np.testing.assert_allclose(results(browser)[0], extracted(*inputs).clip(-1, 1), atol=2e-4)


def test_nothing_is_kept_once_the_tab_is_closed(browser, server, tmp_path):
    own = tmp_path / "mine.wav"
    shutil.copy(MIXTURE, own)
    open_page(browser, server)
    give(browser, own, VOICE)
    browser.click("#go")
    done(browser)
    assert [path for path in server.files() if path.name == "mine.wav"]
    browser.open("about:blank", width=400)
    wait_for(lambda: not [path for path in server.files() if path.suffix in (".wav", ".flac", ".png")])


def test_it_can_be_used_by_the_keyboard_alone(browser, server):
    open_page(browser, server)
    give(browser, MIXTURE, VOICE)
    browser.evaluate("document.querySelector('#menu input').focus()")
    tab(browser, "document.activeElement.id === 'go'")
    browser.press("Enter", code=13, text="\r")
    done(browser)
    tab(browser, "document.activeElement.type === 'radio' && document.activeElement.closest('#view')")
    chosen = "document.querySelector('#view .heard label').innerText"
    assert browser.evaluate(chosen) == "the result"
    browser.press("ArrowUp", code=38)
    assert browser.evaluate(chosen) == "utt0.wav"
    tab(browser, "document.activeElement.className === 'play'")
    browser.press(" ", code=32, text=" ")
    browser.wait("!document.querySelector('#view audio').paused || document.querySelector('#view audio').ended")
    tab(browser, "document.activeElement.type === 'range'")
    browser.press("Home", code=36)
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def tab(browser, arrived: str) -> None:
    """Press the tabulator until it has arrived."""
    for _ in range(40):
        browser.press("Tab", code=9)
        if browser.evaluate(f"Boolean({arrived})"):
            return
    raise AssertionError(f"never: {arrived}; at {browser.evaluate('document.activeElement.outerHTML')[:300]}")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_and_can_be_read(browser, server, width, dark):
    open_page(browser, server, width=width, dark=dark)
    give(browser, MIXTURE, VOICE)
    browser.click("#go")
    done(browser)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    texts = browser.evaluate(TEXTS)
    assert len(texts) > 15
    for text in texts:
        assert -0.5 <= text["left"] and text["right"] <= width + 0.5, text
        assert text["size"] >= 11, text
        assert contrast(text["ink"], text["paper"]) >= 4.5, text
    assert (luminance(texts[0]["paper"]) < 0.1) == dark


def test_a_recording_is_made_here(server):
    with Browser(timeout=120, flags=FAKE_MICROPHONE) as browser:
        open_page(browser, server)
        browser.click("#first button[aria-label='Record audio']")
        browser.wait("!!document.querySelector('#first .record-button')")
        browser.click("#first .record-button")
        browser.wait("!!document.querySelector('#first .stop-button')?.checkVisibility()")
        browser.evaluate("new Promise(r => setTimeout(r, 1500))")
        browser.click("#first .stop-button")
        browser.wait(f"{SIGNALS} === 1")
        assert float(browser.evaluate("document.querySelector('#view .length').innerText.split(' ')[0]")) > 0.5
