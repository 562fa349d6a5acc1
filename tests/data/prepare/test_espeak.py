"""espeak-ng: what happens where it is missing, lacks a voice, or lies in a deep folder."""

from __future__ import annotations

import signal
import sys
import tempfile

import numpy as np
import pytest

from data.prepare import espeak

loader = pytest.importorskip("espeakng_loader", reason="requirements-synthetic.txt is not installed")

VOICE = dict(accent="en-US", timbre="f1")
SETTINGS = dict(words_per_minute=175, pitch=50, pitch_range=50, seed=0)


@pytest.mark.parametrize(("accent", "timbre"), [("en-US", "nobody"), ("en-XX", "f1")])
def test_a_voice_that_it_lacks_is_an_error(accent, timbre):
    with pytest.raises(espeak.EspeakError, match=rf"lacks the voice {accent}\+{timbre}"):
        espeak.say("Hello.", accent=accent, timbre=timbre, **SETTINGS)


def test_formants_are_scaled_where_the_timbre_has_them():
    text = "language variant\nname x\npitch 80 120\nformant 1 90 50 // first\nformant 3 110 100 100 20\n"
    moved = espeak._move_formants(text, [(100, 100, 100), (110, 50, 100), (95, 100, 120), (100, 100, 90)])
    assert moved.splitlines() == [
        "name x",
        "pitch 80 120",
        "formant 0 100 100 100",
        "formant 1 99 25 100",
        "formant 2 95 100 120",
        "formant 3 110 100 90 20",
    ]


def test_a_moved_formant_is_heard_and_keeps_the_length():
    as_it_is = espeak.say("Are you all away?", **VOICE, **SETTINGS)
    np.testing.assert_array_equal(as_it_is, espeak.say("Are you all away?", **VOICE, **SETTINGS, formants=()))
    np.testing.assert_array_equal(
        as_it_is, espeak.say("Are you all away?", **VOICE, **SETTINGS, formants=[(100, 100, 100)] * 6)
    )
    higher = espeak.say("Are you all away?", **VOICE, **SETTINGS, formants=[(100, 100, 100)] + [(130, 100, 100)] * 5)
    assert len(higher) == len(as_it_is)
    centre = [
        np.average(np.arange(1025), weights=np.abs(np.fft.rfft(wav[:18432].reshape(-1, 2048))).mean(axis=0))
        for wav in (as_it_is, higher)
    ]
    assert centre[1] > 1.05 * centre[0]


def test_its_data_may_have_a_long_path(tmp_path, monkeypatch):
    expected = espeak.say("Hello.", **VOICE, **SETTINGS)
    link = tmp_path / ("d" * 200)
    link.symlink_to(loader.get_data_path())
    monkeypatch.setattr(loader, "get_data_path", lambda: str(link))
    np.testing.assert_array_equal(espeak.say("Hello.", **VOICE, **SETTINGS), expected)


def test_temporary_files_may_have_a_long_path(tmp_path, monkeypatch):
    """Voices were once written into a file there whose name espeak-ng had no room for."""
    expected = espeak.say("Hello.", **VOICE, **SETTINGS)
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    np.testing.assert_array_equal(espeak.say("Hello.", **VOICE, **SETTINGS), expected)


def test_an_interrupt_is_not_lost_while_it_speaks():
    def interrupt(_signal, _frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            for _ in range(100):
                espeak.say("Why did Naomi leave the harbour before breakfast? " * 5, **VOICE, **SETTINGS)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_data_that_cannot_be_read_are_named_and_leave_no_state(tmp_path, monkeypatch, capfd):
    expected = espeak.say("Hello.", **VOICE, **SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(loader, "get_data_path", lambda: str(tmp_path))
        with pytest.raises(espeak.EspeakError, match=f"cannot read its data in {tmp_path}: pip install"):
            espeak.version()
    for _ in range(3):
        np.testing.assert_array_equal(espeak.say("Hello.", **VOICE, **SETTINGS), expected)


def test_without_the_package_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(espeak.EspeakError, match="pip install -r requirements-synthetic.txt"):
        espeak.say("Hello.", **VOICE, **SETTINGS)
    with pytest.raises(espeak.EspeakError, match="pip install -r requirements-synthetic.txt"):
        espeak.version()
