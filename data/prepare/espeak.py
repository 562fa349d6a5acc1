"""espeak-ng, which says the sentences of the synthetic corpus: a binding to its C library.

It is under the GPL, version 3, so it is an optional package, and is loaded here and nowhere else. Tried on Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np

SAMPLE_RATE = 22050
_INSTALL = "pip install -r requirements-synthetic.txt"
_SYNCHRONOUS, _NEVER_EXIT = 2, 0x8000  # espeak_Initialize: output to a callback; return an error, do not exit
_TELL_PHONEMES = 1  # the same: the callback is told where each phoneme begins, which changes no sample
_END_OF_LIST, _PHONEME = 0, 7  # types of events
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4  # espeak_SetParameter
_CHARACTERS, _UTF8 = 1, 1  # espeak_Synth: how position is counted; encoding
_QUIET = 50  # volume; at espeak-ng's 100 some timbres clip


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; ``position`` is in ms of what was said."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("type", "identifier", "text_position", "length", "position", "sample")),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
Phonemes = list[tuple[float, str]]  # where each begins, in seconds, and espeak-ng's name of it; "" is a pause
# The only thread that uses the library, because Python handles signals in the main one: were that inside a callback,
# what the handler raises would be lost. It starts with the first use.
_thread = ThreadPoolExecutor(1)


class EspeakError(OSError):
    """espeak-ng is not installed, is incomplete, or fails."""


def say(
    text: str,
    *,
    accent: str,
    timbre: str,
    words_per_minute: int,
    pitch: int,
    pitch_range: int,
    seed: int,
    formants: Sequence[tuple[int, int, int]] = (),
) -> np.ndarray:
    """Say a sentence. A pure function of its arguments, whatever was said before.

    Args:
        accent: one of espeak-ng's Germanic languages, such as ``en-US``.
        timbre: one of its variants, such as ``f1``.
        words_per_minute, pitch, pitch_range: on espeak-ng's scales; the last two from 0 to 99.
        seed: of the noise of breath.
        formants: (frequency, height, width) of the first formants, the 0th among them, in per cent of the timbre's.

    Returns:
        [T] float64 in [-1, 1] at 22,050 Hz.

    Raises:
        EspeakError: it is not installed, fails, or lacks the accent or the timbre.
    """
    return say_with_phonemes(
        text,
        accent=accent,
        timbre=timbre,
        words_per_minute=words_per_minute,
        pitch=pitch,
        pitch_range=pitch_range,
        seed=seed,
        formants=formants,
    )[0]


def say_with_phonemes(
    text: str,
    *,
    accent: str,
    timbre: str,
    words_per_minute: int,
    pitch: int,
    pitch_range: int,
    seed: int,
    formants: Sequence[tuple[int, int, int]] = (),
) -> tuple[np.ndarray, Phonemes]:
    """The same, and where each phoneme begins."""
    settings = {_RATE: words_per_minute, _VOLUME: _QUIET, _PITCH: pitch, _RANGE: pitch_range}
    samples, phonemes = _thread.submit(_synthesize, text, accent, timbre, settings, seed, formants).result()
    return np.frombuffer(samples, dtype="<i2") / 32768, phonemes


def version() -> str:
    """The version of espeak-ng. Raises EspeakError if it cannot be used."""
    return _thread.submit(_version).result()


def _synthesize(
    text: str,
    accent: str,
    timbre: str,
    settings: Mapping[int, int],
    seed: int,
    formants: Sequence[tuple[int, int, int]],
) -> tuple[bytes, Phonemes]:
    chunks: list[bytes] = []
    phonemes: Phonemes = []

    def collect(samples: int | None, number: int, events: Sequence[_Event]) -> int:
        if samples and number > 0:
            chunks.append(ctypes.string_at(samples, 2 * number))
        for event in itertools.takewhile(lambda event: event.type != _END_OF_LIST, iter(events) if events else ()):
            if event.type == _PHONEME:
                phonemes.append((event.position / 1000, event.name.decode()))
        return 0  # go on

    callback = _CALLBACK(collect)
    voice = f"{accent}+{timbre}"
    with _library() as library, _voice_file(accent, timbre, formants) as file:
        if library.espeak_SetVoiceByFile(os.fsencode(file)) != 0:
            raise EspeakError(f"this espeak-ng cannot use the voice {voice}: {_INSTALL}")
        library.espeak_SetSynthCallback(callback)
        for parameter, value in settings.items():
            library.espeak_SetParameter(parameter, value, 0)
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))  # two sources of breath noise: its own, and libc's
        ctypes.CDLL(None).srand(ctypes.c_uint(seed))
        encoded = text.encode() + b"\0"
        if library.espeak_Synth(encoded, len(encoded), 0, _CHARACTERS, 0, _UTF8, None, None) != 0 or not chunks:
            raise EspeakError(f"espeak-ng said nothing for {text!r} with the voice {voice}")
    return b"".join(chunks), phonemes


@contextlib.contextmanager
def _voice_file(accent: str, timbre: str, formants: Sequence[tuple[int, int, int]]) -> Iterator[str]:
    """A file of a whole voice: what espeak-ng says of the accent, then what it says of the timbre, changed.

    It has no name but that of its descriptor, which is short wherever temporary files are: espeak-ng has room for
    fewer than 160 characters.
    """
    data = Path(_loader().get_data_path())
    try:
        language = Path(data, "lang", "gmw", accent).read_text(encoding="utf-8")
        variant = Path(data, "voices", "!v", timbre).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise EspeakError(f"this espeak-ng lacks the voice {accent}+{timbre}: {_INSTALL}") from error
    with tempfile.TemporaryFile() as file:
        file.write(f"{language}\n{_move_formants(variant, formants)}".encode())
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _move_formants(variant: str, formants: Sequence[tuple[int, int, int]]) -> str:
    """The text of a variant, its formants' (frequency, height, width) scaled by so many per cent.

    In it, ``formant 2 96 97 100`` gives formant 2 96 % of the frequency that the accent has, 97 % of its height and all
    of its width; what is left out is 100. A fourth value is in Hz, added to the frequency, and stays.
    """
    kept, found = [], {}
    for line in variant.splitlines():
        words = line.partition("//")[0].split()
        if words[:1] == ["formant"]:
            found[int(words[1])] = [int(word) for word in words[2:]]
        elif words[:2] != ["language", "variant"]:
            kept.append(line)
    for number, scale in enumerate(formants):
        values = found.get(number, [])
        relative = [*values, 100, 100, 100][:3]
        found[number] = [round(x * y / 100) for x, y in zip(relative, scale, strict=True)] + values[3:]
    kept += [f"formant {number} {' '.join(map(str, values))}" for number, values in sorted(found.items())]
    return "\n".join(kept) + "\n"


def _version() -> str:
    with _library() as library:
        library.espeak_Info.restype = ctypes.c_char_p
        return library.espeak_Info(None).decode()


def _loader() -> ModuleType:
    try:
        import espeakng_loader
    except ImportError as error:
        raise EspeakError(f"synthetic speech needs espeak-ng, an optional package (GPL): {_INSTALL}") from error
    return espeakng_loader


@contextlib.contextmanager
def _library() -> Iterator[ctypes.CDLL]:
    """espeak-ng, loaded anew, and unloaded at the end.

    It keeps its state (phase, flutter, random numbers) in static variables that neither a new voice nor
    espeak_Initialize resets, so that a sentence would depend on those before it. Loading takes 3 ms.
    """
    import _ctypes  # for dlclose: ctypes has no public way to unload

    loader = _loader()
    library = ctypes.CDLL(loader.get_library_path())
    with contextlib.ExitStack() as undo:
        undo.callback(_ctypes.dlclose, library._handle)
        data = undo.enter_context(_short(loader.get_data_path()))
        if library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _NEVER_EXIT | _TELL_PHONEMES) != SAMPLE_RATE:
            raise EspeakError(f"espeak-ng cannot read its data in {data}: {_INSTALL}")
        undo.callback(library.espeak_Terminate)  # ends its thread, which must not outlive the code
        yield library


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """The path, or a link to it: espeak-ng has room for fewer than 160 characters."""
    if len(os.fsencode(path)) < 140:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "data")
        link.symlink_to(path)
        yield str(link)
