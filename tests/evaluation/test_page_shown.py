"""The report's page in a browser: what can be seen, read and heard, on a desk and on a telephone."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from evaluation.media import SAMPLE_RATE
from evaluation.page import write_page
from tests.browser import CHROMIUM, Browser
from tests.readable import TEXTS, contrast, luminance
from tests.report import NASTY, bare, report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"),
]
WIDTHS = (1280, 400)

PLAY = """(async () => {
  const results = [];
  const wait = (player, event) => new Promise((resolve, reject) => {
    player.addEventListener(event, resolve, {once: true});
    setTimeout(() => reject(new Error(`no ${event} in 10 s: ${player.error?.message}`)), 10000);
  });
  for (const player of document.querySelectorAll("audio")) {
    if (player.readyState < 1) await wait(player, "loadedmetadata");
    player.muted = true;
    await player.play();
    while (player.currentTime < 0.02) await wait(player, "timeupdate");
    player.pause();
    results.push({duration: player.duration, width: player.clientWidth, controls: player.controls});
  }
  return results;
})()"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def content():
    return report()


@pytest.fixture(scope="module")
def path(content, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(path, *content)
    return path


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_all_text_can_be_read(browser, path, width, dark):
    browser.open(path, width=width, dark=dark)
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    texts = browser.evaluate(TEXTS)
    assert len(texts) > 200
    for text in texts:
        assert text["scrolls"] or -0.5 <= text["left"] and text["right"] <= width + 0.5, text
        assert text["inside"], text
        assert text["size"] >= 11, text
        assert contrast(text["ink"], text["paper"]) >= 4.5, text
    assert (luminance(texts[0]["paper"]) < 0.1) == dark
    labels = [text for text in texts if text["group"] >= 0]
    assert len(labels) > 100
    for index, one in enumerate(labels):
        for other in labels[:index]:
            if one["group"] == other["group"]:
                apart = one["left"] >= other["right"] or other["left"] >= one["right"]
                # the height of a line is more than that of its letters
                assert apart or abs(one["top"] - other["top"]) > 10, (one, other)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_and_the_pictures_are_there(browser, path, content, width):
    browser.open(path, width=width)
    cells = browser.evaluate("[...document.querySelectorAll('.results tr')].map(row => row.innerText)")
    for title, mean in (("SI-SDR", "-12.31"), ("STOI", "0.812"), ("dWER", "0.297"), ("Token error", "61.3")):
        assert any(title in cell and mean in cell for cell in cells), title
    assert browser.evaluate("document.querySelector('.results a').title").startswith("Exactly how")
    assert browser.evaluate("document.querySelector('.results a').hash") == "#definition-si_sdr"
    assert browser.evaluate("document.getElementById('definition-si_sdr').checkVisibility()")

    pictures = browser.evaluate(
        "[...document.images].map(i => ({natural: i.naturalWidth, width: i.clientWidth, height: i.clientHeight, "
        "alt: i.alt}))"
    )
    assert len(pictures) == sum(len(example.signals) for example in content[2])
    for picture in pictures:
        assert picture["natural"] > 100 and picture["width"] >= 250 and picture["height"] >= 120, picture
        assert picture["alt"].startswith("Spectrogram of")
    assert pictures[-1]["alt"] == f"Spectrogram of extracted, worst example {NASTY}: 0 to 15.0 s, 0 to 8 kHz"

    shown = Image.open(io.BytesIO(browser.screenshot()))
    assert shown.width == width
    assert shown.height == browser.evaluate("document.documentElement.scrollHeight")


def test_narrow_signals_are_below_each_other(browser, path):
    lefts = {}
    for width in WIDTHS:
        browser.open(path, width=width)
        lefts[width] = browser.evaluate(
            "[...document.querySelectorAll('.panel')].map(p => p.getBoundingClientRect().left)"
        )
    assert len(set(lefts[1280])) == 2 and len(set(lefts[400])) == 1


def test_a_wide_table_scrolls_in_its_own_box(browser, path):
    browser.open(path, width=400)
    boxes = browser.evaluate(
        "[...document.querySelectorAll('.scroll')].map(b => { b.scrollLeft = 1e4; "
        "const place = cell => cell.getBoundingClientRect(); return {moved: b.scrollLeft, "
        "end: place(b.querySelector('tr').lastElementChild).right, name: place(b.querySelector('tbody th')).left} })"
    )
    assert any(box["moved"] > 0 for box in boxes)
    for box in boxes:
        assert box["end"] <= 400 and box["name"] >= 0, box


@pytest.mark.parametrize("width", WIDTHS)
def test_everything_can_be_heard(browser, path, content, width):
    browser.open(path, width=width)
    players = browser.evaluate(PLAY)
    signals = [
        example.signals[role]
        for example in content[2]
        for role in ("mixture", "enrolment", "target", "extracted", "ceiling")
        if role in example.signals
    ]
    assert len(players) == len(signals)
    for player, signal in zip(players, signals, strict=True):
        assert player["duration"] == pytest.approx(min(len(signal) / SAMPLE_RATE, 15), abs=0.01)
        assert player["controls"] and player["width"] >= 250


def test_nothing_but_the_file_is_asked_for(browser, path, tmp_path):
    browser.open(path, width=1280)
    browser.evaluate(PLAY)
    assert browser.requests[0] == path.as_uri()
    assert len(browser.requests) > 10
    assert all(address.startswith("data:") for address in browser.requests[1:])

    page = tmp_path / "loads.html"  # would it have been seen?
    page.write_text('<!doctype html><img src="http://127.0.0.1:9/picture.png">')
    browser.open(page, width=1280)
    assert browser.requests == [page.as_uri(), "http://127.0.0.1:9/picture.png"]


def test_names_are_text(browser, path):
    browser.open(path, width=1280)
    assert browser.evaluate("document.scripts.length") == 0
    assert browser.evaluate("document.querySelector('.problems .file').textContent") == NASTY
    assert browser.evaluate("document.querySelectorAll('.example .name')[2].textContent") == NASTY


@pytest.mark.parametrize("width", WIDTHS)
def test_the_least_page(browser, tmp_path, width):
    write_page(tmp_path / "report.html", *bare())
    browser.open(tmp_path / "report.html", width=width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert "0.800" in browser.evaluate("document.querySelector('.results').innerText")
    bars = browser.evaluate("document.querySelector('path.extracted').getBBox().height")
    assert bars > 100


def test_the_browser_says_what_went_wrong_and_leaves_nothing(tmp_path):
    with Browser(timeout=20) as browser:
        with pytest.raises(RuntimeError, match="ERR_FILE_NOT_FOUND"):
            browser.open(tmp_path / "missing.html", width=400)
        with pytest.raises(RuntimeError, match="nothing is not defined"):
            browser.evaluate("nothing")
        browser.timeout = 0.2
        with pytest.raises(TimeoutError):
            browser.evaluate("new Promise(() => {})")
        process, folder = browser._process, browser._folder.name
    assert process.returncode is not None and not os.path.exists(folder)
