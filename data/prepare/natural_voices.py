"""The natural voices of the synthetic corpus: which there are, which a split gets, and how they say a sentence.

A talker is a voice of Kokoro's or a blend of two, said faster or slower, and shifted: its samples are taken for those
of another rate, which moves formants, F0 and tempo together, as a longer or shorter vocal tract would the first. What
costs time is to say a sentence; to shift it costs next to nothing. So training talkers come in groups: the same
sentences, said once, at several shifts.

Which voice is in which split is decided here, whatever the seed: a talker of dev or test has no voice in it that
training has, neither blended nor shifted.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from data.audio import SAMPLE_RATE
from data.prepare import kokoro
from data.prepare.kokoro import Kokoro
from data.prepare.voices import rms, trim

VERSION = 2  # of what is made of the arguments; a change of it raises it, so that no corpus is begun so and ended so
# Kokoro's 54 voices, by language (American, British, Spanish, French, Hindi, Italian, Japanese, Portuguese, Chinese)
# and sex.
_VOICES = {
    "af": "alloy aoede bella heart jessica kore nicole nova river sarah sky",
    "am": "adam echo eric fenrir liam michael onyx puck santa",
    "bf": "alice emma isabella lily",
    "bm": "daniel fable george lewis",
    "ef": "dora", "em": "alex santa", "ff": "siwis",
    "hf": "alpha beta", "hm": "omega psi", "if": "sara", "im": "nicola",
    "jf": "alpha gongitsune nezumi tebukuro", "jm": "kumo",
    "pf": "dora", "pm": "alex santa",
    "zf": "xiaobei xiaoni xiaoxiao xiaoyi", "zm": "yunjian yunxi yunxia yunyang",
}  # fmt: skip
NAMES = tuple(f"{group}_{name}" for group, names in _VOICES.items() for name in names.split())
# Voices that are one person, or nearly: those of one name in several languages, and those of one sex whose timbres
# (mean of rows 60 to 140) have a cosine above 0.8; in the median of pairs it is 0.38. They stay in training, and so
# does the one that hibari-tts has a copy of.
_ALIKE = {
    *(name for name in NAMES if name.split("_")[1] in ("santa", "alex", "dora", "alpha")),
    *"jf_gongitsune jf_nezumi jf_tebukuro af_jessica af_river bf_alice bf_lily bm_daniel bm_george".split(),
    *"hm_omega hm_psi af_heart".split(),
}
_HELD_OUT = {"test": 3, "dev": 2}  # voices of each sex, English and foreign
# Rates that Kokoro's 24,000 Hz are taken for: 15 % less to 17 % more. A training group has one of each band; between
# bands there are 8 %.
_BANDS = (range(20400, 21601, 400), range(23600, 24401, 400), range(26400, 28001, 400))
MOST_SHIFTS = len(_BANDS)
_RATES = tuple(itertools.chain(*_BANDS))
_SHARE = (0.3, 0.7)  # of the first of two voices that are blended
_SPEED = (0.85, 1.1)
_FIRST_ID = {"train": 1001, "dev": 5001, "test": 7001}


@dataclass(frozen=True)
class NaturalVoice:
    """All that makes a talker: the same settings, the same voice."""

    sex: str  # F or M
    blend: tuple[tuple[str, float, float], ...]  # voices, with their shares of timbre and of melody
    speed: float  # of what Kokoro says; the shift changes it once more
    source_rate: int  # Hz, what its 24,000 Hz are taken for

    @property
    def stretch(self) -> float:
        """What taking one rate for another does to formants, F0 and tempo."""
        return self.source_rate / kokoro.SAMPLE_RATE

    def describe(self) -> str:
        names = " + ".join(
            name if len(self.blend) == 1 else f"{timbre:.2f}/{melody:.2f} {name}" for name, timbre, melody in self.blend
        )
        return f"{names}, formants and F0 x {self.stretch:.3f}, tempo x {self.speed * self.stretch:.2f}"


def akin(one: NaturalVoice, other: NaturalVoice) -> bool:
    """Whether they have a voice in common: such talkers are hard to tell apart, and are not mixed in dev and test."""
    return bool({name for name, *_ in one.blend} & {name for name, *_ in other.blend})


def names_of(split: str) -> list[str]:
    """Kokoro's voices of a split, the same for every seed.

    Of the women with an English voice, the men with one, and both with a foreign one, the first three go to test and
    the next two to dev, in the order of digests of their names; those that are alike go to training.
    """
    held_out: dict[str, list[str]] = {"test": [], "dev": []}
    for sex, is_english in itertools.product("FM", (True, False)):
        names = [n for n in NAMES if n not in _ALIKE and sex_of(n) == sex and (n[0] in "ab") == is_english]
        names.sort(key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())
        for place, number in _HELD_OUT.items():
            held_out[place] += names[:number]
            del names[:number]
    taken = {name for names in held_out.values() for name in names}
    return held_out[split] if split in held_out else [name for name in NAMES if name not in taken]


def sex_of(name: str) -> str:
    return name[1].upper()


def draw_voices(split: str, number: int, *, seed: int, shifts: int = 3) -> dict[str, NaturalVoice]:
    """The talkers of a split, women and men in turn.

    Dev and test: each voice as it is, then blends of two, shifted. Training: groups of ``shifts`` talkers that differ
    in the shift alone, of each voice first, and then of blends.

    Returns:
        speaker ID (a number, as in LibriSpeech) -> talker.
    """
    rng = random.Random(f"natural voices {seed} {split}")
    streams = {sex: _blends([n for n in names_of(split) if sex_of(n) == sex], rng) for sex in "FM"}
    if split == "train":
        made = _groups(streams, shifts, rng)
    else:
        made = (_single(sex, *next(streams[sex]), rng) for sex in itertools.cycle("FM"))
    return {str(_FIRST_ID[split] + i): voice for i, voice in enumerate(itertools.islice(made, number))}


def groups_of(voices: Mapping[str, NaturalVoice]) -> list[dict[str, NaturalVoice]]:
    """Talkers that differ in the shift alone, together: their sentences are said once."""
    groups: dict[tuple, dict[str, NaturalVoice]] = {}
    for speaker, voice in voices.items():
        groups.setdefault((voice.blend, voice.speed), {})[speaker] = voice
    return list(groups.values())


def speak(voices: Sequence[NaturalVoice], text: str, *, seed: int, folder: Path | None = None) -> list[np.ndarray]:
    """Say a sentence once, for talkers that differ in the shift alone. A pure function of its arguments.

    Speed varies a little from sentence to sentence, and a short silence is put before and after.

    Returns:
        for each voice [T] float64 at 16 kHz, of RMS 1.

    Raises:
        KokoroError: a package or a voice is missing.
    """
    first = voices[0]
    assert all((voice.blend, voice.speed) == (first.blend, first.speed) for voice in voices)
    rng = random.Random(f"{seed} {first.blend} {first.speed} {text}")
    said = Kokoro(folder).say(
        text,
        blend=first.blend,
        british=all(name[0] == "b" for name, *_ in first.blend),
        speed=first.speed * rng.uniform(0.95, 1.05),
    )
    silences = [round(rng.uniform(0.05, longest) * SAMPLE_RATE) for longest in (0.3, 0.4)]
    wavs = []
    for voice in voices:
        divisor = math.gcd(voice.source_rate, SAMPLE_RATE)
        wav, _ = trim(resample_poly(said, SAMPLE_RATE // divisor, voice.source_rate // divisor))
        wav = np.pad(wav, silences)
        wavs.append(wav / rms(wav))
    return wavs


def _blends(names: Sequence[str], rng: random.Random) -> Iterator[tuple[bool, tuple[tuple[str, float, float], ...]]]:
    """Each voice as it is, then each with each other one, again and again; and whether it is as it is."""
    names = rng.sample(names, len(names))
    for name in names:
        yield True, ((name, 1.0, 1.0),)
    while True:
        pairs = list(itertools.combinations(names, 2))
        rng.shuffle(pairs)
        for one, other in pairs:
            timbre, melody = (round(rng.uniform(*_SHARE), 2) for _ in range(2))
            yield False, ((one, timbre, melody), (other, round(1 - timbre, 2), round(1 - melody, 2)))


def _single(sex: str, is_pure: bool, blend: tuple, rng: random.Random) -> NaturalVoice:
    rate = kokoro.SAMPLE_RATE if is_pure else rng.choice(_RATES)
    return NaturalVoice(sex, blend, _draw_speed(rng), rate)


def _groups(streams: dict[str, Iterator], shifts: int, rng: random.Random) -> Iterator[NaturalVoice]:
    for sex in itertools.cycle("FM"):
        _, blend = next(streams[sex])
        speed = _draw_speed(rng)
        bands = rng.sample(_BANDS, shifts)
        for band in bands:
            yield NaturalVoice(sex, blend, speed, rng.choice(band))


def _draw_speed(rng: random.Random) -> float:
    return round(rng.uniform(*_SPEED), 3)
