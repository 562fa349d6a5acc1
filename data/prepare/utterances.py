"""The audio files of the synthetic corpus: single voices in a tree like LibriSpeech's, and two-talker mixtures.

Every file is a function of the voices, the sentences and the seed, so that any process can write any of them, and one
that is there need not be made again. A voice is whatever ``say`` takes: those of ``data.prepare.voices``, or of
``data.prepare.natural_voices``.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import audio
from data.prepare.sentences import sentences, transcript
from data.prepare.voices import rms, speak
from utils.files import write_text

# Say a sentence in each of some voices: (voices, text, seed=) -> for each [T] float64 at 16 kHz, of RMS 1.
Say = Callable[..., Sequence[np.ndarray]]
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


def say_one_by_one(voices: Sequence[Any], text: str, *, seed: int) -> list[np.ndarray]:
    """With voices of ``data.prepare.voices``."""
    return [speak(voice, text, seed=seed) for voice in voices]


def never_akin(_one: Any, _other: Any) -> bool:
    return False


def plan_mixtures(
    split: str,
    voices: Mapping[str, Any],
    number: int,
    *,
    seed: int,
    akin: Callable[[Any, Any], bool] = never_akin,
) -> list[Mixture]:
    """Every voice is the target about as often as any other, with all others as interferers that are not akin to it.

    Raises:
        ValueError: all others are.
    """
    rng = random.Random(f"mixtures {seed} {split}")
    texts = sentences(split, f"sentences {seed} {split}")
    said = dict.fromkeys(voices, 0)
    mixtures = []
    for target in itertools.islice(itertools.cycle(voices), number):
        others = [who for who, voice in voices.items() if who != target and not akin(voice, voices[target])]
        if not others:
            raise ValueError(
                f"{len(voices)} {split} voices are too few: all are akin to {target}; ask for more mixtures"
            )
        interferer = rng.choice(others)
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


def write_mixture(
    folder: Path, mixture: Mixture, voices: Mapping[str, Any], *, seed: int, say: Say = say_one_by_one
) -> None:
    """Write the four files of a mixture that are not there, one below the folder of each role."""
    if all((folder / role / mixture.name).exists() for role in ROLES):
        return
    rng = random.Random(f"levels {seed} {mixture.name}")
    target, interferer = voices[mixture.target], voices[mixture.interferer]
    said = zip((target, interferer, target), mixture.texts, strict=True)
    s1, s2, enrolment = (say([voice], text, seed=seed)[0] for voice, text in said)
    write_roles(folder, mixture.name, s1, s2, enrolment, rng)


def write_roles(
    folder: Path, name: str, s1: np.ndarray, s2: np.ndarray, enrolment: np.ndarray, rng: random.Random
) -> None:
    """Mix two talkers at a drawn level and ratio, cut to the shorter, and write the four files of the mixture."""
    length = min(len(s1), len(s2))
    s1, s2 = s1[:length], s2[:length]
    level, ratio = rng.uniform(-30, -25), rng.uniform(-LEVEL_RANGE_DB, LEVEL_RANGE_DB)
    s1, s2 = s1 / rms(s1) * _gain(level + ratio / 2), s2 / rms(s2) * _gain(level - ratio / 2)
    # All three get the same factor, so that the ratio stays; rounded first and added then, so that the sum is exact.
    scale = min(1.0, 0.9 / max(np.abs(signal).max() for signal in (s1, s2, s1 + s2)))
    s1, s2 = np.rint(s1 * scale * 32768), np.rint(s2 * scale * 32768)
    enrolment = np.rint(at_level(enrolment, rng.uniform(-28, -24)) * 32768)
    for role, samples in zip(ROLES, (s1 + s2, s1, s2, enrolment), strict=True):
        audio.write(folder / role / name, samples / 32768)


def write_speakers_of(
    folder: Path, talkers: Mapping[str, Any], *, seconds: float, seed: int, say: Say = say_one_by_one
) -> dict[str, dict[Path, float]]:
    """Write utterances until each talker has ``seconds`` of them, and two at least; what is there stays.

    All say the same sentences: they are one talker, or several that are made of one.

    Returns:
        talker -> file -> seconds.
    """
    levels = {speaker: random.Random(f"levels {seed} {speaker}") for speaker in talkers}
    lengths: dict[str, dict[Path, float]] = {speaker: {} for speaker in talkers}
    lines: dict[Path, list[str]] = {}
    for index, text in enumerate(sentences("train", f"sentences {seed} {next(iter(talkers))}")):
        if index >= 2 and min(sum(files.values()) for files in lengths.values()) >= seconds:
            break
        paths = {}
        for speaker in talkers:
            chapter = str(1 + index // _CHAPTER)
            name = f"{speaker}-{chapter}-{index % _CHAPTER:04d}"
            paths[speaker] = folder / speaker / chapter / f"{name}.flac"
            transcripts = paths[speaker].with_name(f"{speaker}-{chapter}.trans.txt")
            lines.setdefault(transcripts, []).append(f"{name} {transcript(text)}\n")
        decibels = {speaker: rng.uniform(-28, -24) for speaker, rng in levels.items()}
        if not all(path.exists() for path in paths.values()):
            for speaker, wav in zip(talkers, say(list(talkers.values()), text, seed=seed), strict=True):
                audio.write(paths[speaker], at_level(wav, decibels[speaker]))
        for speaker, path in paths.items():
            lengths[speaker][path] = audio.num_samples(path) / audio.SAMPLE_RATE
    for path, chapter_lines in lines.items():
        write_text(path, "".join(chapter_lines))
    return lengths


def _gain(decibels: float) -> float:
    return 10 ** (decibels / 20)


def at_level(wav: np.ndarray, decibels: float) -> np.ndarray:
    """``wav`` of RMS 1 at a level below full scale, or less where its peak would pass 0.9."""
    return wav * min(_gain(decibels), 0.9 / np.abs(wav).max())
