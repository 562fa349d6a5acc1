"""The audio files of the synthetic corpus: single voices in a tree like LibriSpeech's, and two-talker mixtures.

Every file is a function of the voices, the sentences and the seed, so that any process can write any of them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import audio
from data.prepare.sentences import sentences, transcript
from data.prepare.voices import Voice, rms, speak
from utils.files import write_text

ROLES = ("mix_clean", "s1", "s2", "aux_s1")
LEVEL_RANGE_DB = 5.0  # s1 is up to so much louder or quieter than s2
_CHAPTER = 20  # utterances


@dataclass(frozen=True)
class Mixture:
    """Who says what; ``texts`` are those of s1, s2 and aux_s1."""

    name: str
    target: str
    interferer: str
    texts: tuple[str, str, str]

    @property
    def transcripts(self) -> dict[str, str]:
        return dict(zip(ROLES[1:], map(transcript, self.texts), strict=True))


def plan_mixtures(split: str, voices: Mapping[str, Voice], number: int, *, seed: int) -> list[Mixture]:
    """Every voice is the target about as often as any other, with all others as interferers."""
    rng = random.Random(f"mixtures {seed} {split}")
    texts = sentences(split, f"sentences {seed} {split}")
    said = dict.fromkeys(voices, 0)
    mixtures = []
    for target in itertools.islice(itertools.cycle(voices), number):
        interferer = rng.choice([speaker for speaker in voices if speaker != target])
        ids = []
        for speaker in (target, interferer):
            ids.append(f"{speaker}-{1 + said[speaker] // _CHAPTER}-{said[speaker] % _CHAPTER:04d}")
            said[speaker] += 1
        name = "_".join(ids) + ".wav"
        mixtures.append(Mixture(name, target, interferer, (next(texts), next(texts), next(texts))))
    return mixtures


def speakers_of(folder: Path, mixtures: Sequence[Mixture]) -> dict[str, list[Path]]:
    """Speaker -> the files of ``folder`` in which only he or she talks."""
    speakers: dict[str, list[Path]] = {}
    for mixture in mixtures:
        for role, speaker in (("s1", mixture.target), ("aux_s1", mixture.target), ("s2", mixture.interferer)):
            speakers.setdefault(speaker, []).append(folder / role / mixture.name)
    return dict(sorted(speakers.items()))


def write_mixture(folder: Path, mixture: Mixture, voices: Mapping[str, Voice], *, seed: int) -> None:
    """Write the four files of a mixture, one below the folder of each role."""
    rng = random.Random(f"levels {seed} {mixture.name}")
    target, interferer = voices[mixture.target], voices[mixture.interferer]
    said = zip((target, interferer, target), mixture.texts, strict=True)
    s1, s2, enrolment = (speak(voice, text, seed=seed) for voice, text in said)
    length = min(len(s1), len(s2))
    s1, s2 = s1[:length], s2[:length]
    level, ratio = rng.uniform(-30, -25), rng.uniform(-LEVEL_RANGE_DB, LEVEL_RANGE_DB)
    s1, s2 = s1 / rms(s1) * _gain(level + ratio / 2), s2 / rms(s2) * _gain(level - ratio / 2)
    # All three get the same factor, so that the ratio stays; rounded first and added then, so that the sum is exact.
    scale = min(1.0, 0.9 / max(np.abs(signal).max() for signal in (s1, s2, s1 + s2)))
    s1, s2 = np.rint(s1 * scale * 32768), np.rint(s2 * scale * 32768)
    enrolment = np.rint(_at_level(enrolment, rng.uniform(-28, -24)) * 32768)
    for role, samples in zip(ROLES, (s1 + s2, s1, s2, enrolment), strict=True):
        audio.write(folder / role / mixture.name, samples / 32768)


def write_speaker(folder: Path, speaker: str, voice: Voice, *, seconds: float, seed: int) -> dict[Path, float]:
    """Write utterances until there are ``seconds`` of them, and two at least; returns file -> seconds."""
    rng = random.Random(f"levels {seed} {speaker}")
    lengths: dict[Path, float] = {}
    lines: dict[Path, list[str]] = {}
    for index, text in enumerate(sentences("train", f"sentences {seed} {speaker}")):
        if len(lengths) >= 2 and sum(lengths.values()) >= seconds:
            break
        chapter = str(1 + index // _CHAPTER)
        name = f"{speaker}-{chapter}-{index % _CHAPTER:04d}"
        path = folder / speaker / chapter / f"{name}.flac"
        wav = _at_level(speak(voice, text, seed=seed), rng.uniform(-28, -24))
        audio.write(path, wav)
        lengths[path] = len(wav) / audio.SAMPLE_RATE
        lines.setdefault(path.with_name(f"{speaker}-{chapter}.trans.txt"), []).append(f"{name} {transcript(text)}\n")
    for path, chapter_lines in lines.items():
        write_text(path, "".join(chapter_lines))
    return lengths


def _gain(decibels: float) -> float:
    return 10 ** (decibels / 20)


def _at_level(wav: np.ndarray, decibels: float) -> np.ndarray:
    """``wav`` of RMS 1 at a level below full scale, or less where its peak would pass 0.9."""
    return wav * min(_gain(decibels), 0.9 / np.abs(wav).max())
