"""The voices of the synthetic corpus: which there are, which a split gets, and how one says a sentence.

A voice is an accent and a timbre of espeak-ng's, a fundamental frequency, a length of the vocal tract and a speed.
Training, dev and test share no timbre, whatever their seeds. The timbres of training are few, so each of its speakers
has its formants moved at random; those of dev and test are espeak-ng's own.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.signal import resample_poly

from data.audio import SAMPLE_RATE
from data.prepare import espeak

# espeak-ng's timbres that sound like a voice. Left out: whispers, croaks and robots (hardly periodic, or with an echo),
# those that overload the synthesizer, near copies (long-term spectra closer than about 1 dB) and those whose F0 cannot
# be moved far enough. The numbers, (base, spread) in Hz, give the median F0 at espeak-ng's settings of pitch and range:
#     base * 2 ** ((pitch - 50) / 50) + spread * (0.58 + 0.42 * pitch_range / 50)
# They were fitted to statements in three accents, and are right within 2 %.
_TIMBRES = {
    "F": {
        "Andrea": (188, 57), "anika": (194, 78), "aunty": (198, -24), "belinda": (190, 38), "f1": (128, 51),
        "f2": (132, 63), "f3": (129, 82), "f5": (149, 56), "grandma": (105, 98), "linda": (190, 38),
        "shelby": (88, 91), "steph": (160, 24), "steph2": (160, 24),
    },
    "M": {
        "Alex": (96, 8), "Andy": (75, 21), "Denis": (69, 30), "Diogo": (73, 32), "Gene2": (91, 23), "Lee": (75, 21),
        "Mario": (64, 44), "Michael": (63, 44), "Reed": (75, 41), "adam": (70, 31), "ed": (80, 46), "edward": (71, 31),
        "gustave": (69, 37), "iven2": (65, 35), "iven4": (65, 35), "john": (72, 30), "kaukovalta": (59, 42),
        "klatt4": (70, 32), "m3": (69, 36), "m6": (72, 29), "m7": (64, 42), "m8": (55, 30), "marcelo": (51, 46),
        "max": (69, 33), "miguel": (71, 40), "mike2": (56, 34), "norbert": (72, 31), "paul": (60, 25),
        "quincy": (55, 31), "robert": (50, 48), "sandro": (68, 31), "travis": (64, 38), "victor": (69, 26),
    },
}  # fmt: skip
_HELD_OUT = {"F": 3, "M": 6}  # how many timbres only dev, and only test, has
_ACCENTS = "en en-029 en-GB-scotland en-GB-x-gbclan en-GB-x-gbcwmd en-GB-x-rp en-US en-US-nyc".split()
_F0 = {"F": (160, 182, 208, 237, 270), "M": (82, 95, 111, 129, 150)}  # Hz, in steps of 14 to 16 %
# Formants are moved by taking espeak-ng's 22,050 Hz for another rate, as a longer or shorter vocal tract would do.
# These rates, 9 % less to 9 % more, make short resampling filters.
_RATES = (20000, 20800, 21600, 22400, 23200, 24000)
# The formants of a training speaker, 0 to 5, in per cent of its timbre's: frequency, height and width.
_MOVED = ((93, 107), (75, 130), (80, 125))
_FIRST_ID = {"train": 1001, "dev": 5001, "test": 7001}


@dataclass(frozen=True)
class Voice:
    """All that makes a speaker: the same settings, the same voice."""

    sex: str  # F or M
    accent: str  # espeak-ng's language file
    timbre: str  # espeak-ng's variant file
    source_rate: int  # Hz; one of _RATES
    words_per_minute: int
    pitch: int  # espeak-ng's scale, 0 to 99
    pitch_range: int  # the same
    # (frequency, height, width) of the first formants in per cent of the timbre's; none: as they are. It is not in the
    # text that seeds how a sentence is said.
    formants: tuple[tuple[int, int, int], ...] = field(default=(), repr=False)

    @property
    def stretch(self) -> float:
        """What taking one rate for another does to formants, F0 and speed."""
        return self.source_rate / espeak.SAMPLE_RATE

    def describe(self) -> str:
        moved = " ".join("/".join(map(str, formant)) for formant in self.formants)
        return (
            f"{self.accent}+{self.timbre}, F0 {self.f0:.0f} Hz (pitch {self.pitch}, range {self.pitch_range}), "
            f"formants x {self.stretch:.3f}, {self.words_per_minute} words/min"
            f"{moved and f', formants at {moved} % (frequency/height/width)'}"
        )

    @property
    def f0(self) -> float:
        """The median F0 of its statements in Hz."""
        base, spread = _TIMBRES[self.sex][self.timbre]
        return self.stretch * (base * 2 ** ((self.pitch - 50) / 50) + spread * _share(self.pitch_range))


def num_voices(split: str) -> int:
    """How many voices there are that differ in more than accent, speed and pitch range."""
    if split == "train":  # no end of them, but of their IDs
        return _FIRST_ID["dev"] - _FIRST_ID["train"]
    timbres = min(len(_timbres(sex, split)) for sex in _TIMBRES)
    return len(_TIMBRES) * timbres * len(_F0["F"]) * len(_RATES)


def draw_voices(split: str, number: int, *, seed: int) -> dict[str, Voice]:
    """The voices of a split, women and men in turn; no two splits share a timbre.

    Each timbre serves once before one serves twice, then with another F0 and another vocal tract. In training, each
    voice has formants of its own, and any F0.

    Returns:
        speaker ID (a number, as in LibriSpeech) -> voice.
    """
    rng = random.Random(f"voices {seed} {split}")
    streams = {sex: _combinations(_timbres(sex, split), rng) for sex in _TIMBRES}
    voices = {}
    for index, sex in zip(range(number), itertools.cycle(_TIMBRES), strict=False):
        timbre, level, source_rate = next(streams[sex])
        # espeak-ng is asked for this F0, which the change of rate will then shift.
        near = 0.07 if split == "train" else 0.03
        f0 = _F0[sex][level] * rng.uniform(1 - near, 1 + near) * espeak.SAMPLE_RATE / source_rate
        base, spread = _TIMBRES[sex][timbre]
        # A range that grows with F0 is about the same in semitones, as people's is.
        pitch_range = min(max(round(rng.uniform(35, 70) * f0 / (base + spread)), 20), 90)
        ratio = (f0 - spread * _share(pitch_range)) / base
        voices[str(_FIRST_ID[split] + index)] = Voice(
            sex=sex,
            accent=rng.choice(_ACCENTS),
            timbre=timbre,
            source_rate=source_rate,
            words_per_minute=rng.randint(150, 195),
            pitch=min(round(50 + 50 * math.log2(max(ratio, 0.5))), 97),
            pitch_range=pitch_range,
            formants=_draw_formants(rng) if split == "train" else (),
        )
    return voices


def speak(voice: Voice, text: str, *, seed: int) -> np.ndarray:
    """Say a sentence. A pure function of its arguments, whatever was said before.

    Rate and pitch vary a little from sentence to sentence, and a short silence is put before and after.

    Returns:
        [T] float64 at 16 kHz, of RMS 1.

    Raises:
        EspeakError: espeak-ng is not installed, fails, or lacks the voice.
    """
    return speak_with_phonemes(voice, text, seed=seed)[0]


def speak_with_phonemes(voice: Voice, text: str, *, seed: int) -> tuple[np.ndarray, espeak.Phonemes]:
    """The same, and where each phoneme begins, in seconds; some may begin before the first sample."""
    rng = random.Random(f"{seed} {voice} {text}")
    wav, phonemes = espeak.say_with_phonemes(
        text,
        accent=voice.accent,
        timbre=voice.timbre,
        words_per_minute=round(voice.words_per_minute * rng.uniform(0.95, 1.05) / voice.stretch),
        pitch=max(voice.pitch + rng.randint(-2, 2), 0),
        pitch_range=voice.pitch_range,
        seed=rng.getrandbits(31),
        formants=voice.formants,
    )
    divisor = math.gcd(voice.source_rate, SAMPLE_RATE)
    wav, cut = trim(resample_poly(wav, SAMPLE_RATE // divisor, voice.source_rate // divisor))
    silences = [round(rng.uniform(0.05, longest) * SAMPLE_RATE) for longest in (0.3, 0.4)]
    wav = np.pad(wav, silences)
    # Where one rate is taken for another, time is stretched too.
    moved = (silences[0] - cut) / SAMPLE_RATE
    return wav / rms(wav), [(start / voice.stretch + moved, name) for start, name in phonemes]


def rms(wav: np.ndarray) -> float:
    return math.sqrt(np.square(wav).mean())


def _share(pitch_range: int) -> float:
    """How much of a timbre's spread the median F0 gets at a setting of espeak-ng's range."""
    return 0.58 + 0.42 * pitch_range / 50


def _timbres(sex: str, split: str) -> list[str]:
    # The same for every seed, so that what was trained on one corpus can be tested on another.
    names = random.Random("timbres 0").sample(sorted(_TIMBRES[sex]), len(_TIMBRES[sex]))
    held_out = _HELD_OUT[sex]
    return {"dev": names[:held_out], "test": names[held_out : 2 * held_out], "train": names[2 * held_out :]}[split]


def _draw_formants(rng: random.Random) -> tuple[tuple[int, int, int], ...]:
    return tuple((rng.randint(*_MOVED[0]), rng.randint(*_MOVED[1]), rng.randint(*_MOVED[2])) for _ in range(6))


def _combinations(timbres: Sequence[str], rng: random.Random) -> Iterator[tuple[str, int, int]]:
    """(timbre, number of the F0, rate), without end: each timbre once, then each with both others changed, ..."""
    levels = len(_F0["F"])
    starts = [(timbre, rng.randrange(levels), rng.randrange(len(_RATES))) for timbre in timbres]
    # 5 levels and 6 rates have no common divisor, so stepping through both at once meets all 30 pairs.
    for turn in itertools.count():
        for timbre, level, rate in starts:
            yield timbre, (level + 2 * turn) % levels, _RATES[(rate + turn) % len(_RATES)]


def trim(wav: np.ndarray) -> tuple[np.ndarray, int]:
    """Cut espeak-ng's own silences, long and always the same, leaving 30 ms with a fade.

    Also returns how many samples were cut off its beginning.
    """
    frame, margin = 160, 480  # samples at 16 kHz
    energy = np.square(wav[: len(wav) // frame * frame]).reshape(-1, frame).sum(axis=1)
    loud = np.flatnonzero(energy > energy.max() * 10**-4.5)
    cut = max(int(loud[0]) * frame - margin, 0)
    wav = wav[cut : (loud[-1] + 1) * frame + margin].copy()
    ramp = np.linspace(0, 1, frame)
    wav[:frame] *= ramp
    wav[-frame:] *= ramp[::-1]
    return wav, cut
