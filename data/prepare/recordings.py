"""Recordings of real people from two packages of Debian's: single words joined to utterances, and two-talker mixtures.

    apt-get install klettres-data ktuberling-data
    python -m data.prepare.recordings --output recordings

These are two games for children: letters and syllables (klettres) and names of things (ktuberling), spoken by
volunteers in many languages, at home, each into another microphone. Both packages are under the GPL, version 2 or
later, as their copyright files in /usr/share/doc say: what is made of them is not to be passed on under other terms.

    DIR/train/<speaker>/1/<speaker>-1-<utterance>.flac  as LibriSpeech
    DIR/train.json                                      speaker index, for training on mixtures made on the fly
    DIR/dev, DIR/test: mix_clean s1 s2 aux_s1           two-talker mixtures as in Libri2Mix, one name in all four
                       mix_clean.scp s1.scp ...         lists of these files
    DIR/dev.json, DIR/test.json                         speaker indices of s1, s2 and aux_s1
    DIR/SPEAKERS.TXT                                    who is who
    DIR/recordings.json                                 the arguments; written last

An utterance is 3 to 6 seconds of words in random order, of one level, with short pauses. Each word is in one utterance
only, so an enrolment shares none with its target. Which talker is in which set follows from the digest of the code of
the language, so that one person who speaks in both packages is in one set.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from scipy.signal import resample_poly
from tqdm import tqdm

from data import audio
from data.prepare.corpus_folder import CorpusFolder
from data.prepare.sentences import SPLITS
from data.prepare.utterances import ROLES, at_level, write_roles
from data.prepare.voices import rms, trim
from data.scp import write_scp
from data.speakers import write_speakers
from utils.errors import report_errors
from utils.files import write_text

MANIFEST = "recordings.json"
SOURCES = (Path("/usr/share/klettres"), Path("/usr/share/ktuberling/sounds"))
_INSTALL = "apt-get install klettres-data ktuberling-data"
_VERSION = 1  # of what is made of the arguments; a change of it raises it
_SUFFIXES = (".ogg", ".wav", ".flac")
_LOWEST_RATE = 16000  # Hz; some were made for telephones
_UTTERANCE = (3.0, 6.0)  # seconds
_WORD = (0.1, 5.0)  # seconds; what is longer is not one word
_PAUSE = (0.05, 0.25)  # seconds
_FEWEST, _MOST = 3, 60  # utterances of a talker
_FIRST_ID = {"train": 2001, "dev": 6001, "test": 8001}
# By the remainder of the digest of the language's code, whatever other languages there are.
_SPLIT_OF = ("test", "test", "train", "train", "dev")
# Folders with several people in them: a speaker encoder (Resemblyzer) finds stretches of 4 s whose cosine with the mean
# of all is below 0.86, where it is above 0.87 for the others.
_SEVERAL_PEOPLE = {"ktuberling/ca", "ktuberling/da", "ktuberling/ru"}
# Letters and syllables are by two people (cosine 0.67; 0.83 to 0.98 for the others): the syllables are taken.
_LEFT_OUT = {"klettres/de/alpha"}


@dataclass(frozen=True)
class Talker:
    """One person: a folder of files."""

    name: str  # of the source's folder and its own: klettres/de
    language: str
    files: tuple[Path, ...]


def find_talkers(sources: Sequence[Path]) -> list[Talker]:
    """The folders directly in ``sources`` are talkers, named by the codes of their languages.

    Files below 16 kHz are left out, those that another talker has too, and of each talker's those of another rate than
    most: they may be another person's.

    Raises:
        FileNotFoundError: a source is missing, or none has a talker; the message says how to get them.
    """
    talkers, seen = [], set()
    for source in sources:
        if not source.is_dir():
            raise FileNotFoundError(f"no folder {source}: {_INSTALL}, or give others as --source")
        package = source.parent.name if source.name == "sounds" else source.name
        for folder in sorted(path for path in source.iterdir() if path.is_dir()):
            name = f"{package}/{folder.name}"
            if name in _SEVERAL_PEOPLE:
                continue
            by_rate: dict[int, list[Path]] = {}
            for path in sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES):
                if f"{package}/{path.parent.relative_to(source)}" in _LEFT_OUT:
                    continue
                digest = hashlib.sha256(path.read_bytes()).digest()
                if digest not in seen:
                    seen.add(digest)
                    by_rate.setdefault(_sample_rate(path), []).append(path)
            rate, files = max(by_rate.items(), key=lambda item: len(item[1]), default=(0, []))
            if rate >= _LOWEST_RATE:
                talkers.append(Talker(name, folder.name.replace("@", "_").split("_")[0], tuple(files)))
    if not talkers:
        raise FileNotFoundError(f"no recordings in {', '.join(map(str, sources))}: {_INSTALL}")
    return talkers


def split_talkers(talkers: Sequence[Talker]) -> dict[str, dict[str, Talker]]:
    """Set -> speaker ID -> talker; all of a language are in one set."""
    return {
        split: {
            str(_FIRST_ID[split] + number): talker
            for number, talker in enumerate(talker for talker in talkers if _split_of(talker.language) == split)
        }
        for split in SPLITS
    }


def _split_of(language: str) -> str:
    digest = hashlib.blake2b(language.encode(), digest_size=8).digest()
    return _SPLIT_OF[int.from_bytes(digest) % len(_SPLIT_OF)]


def utterances_of(talker: Talker, *, seed: int) -> list[np.ndarray]:
    """Join a talker's words, each [T] float64 at 16 kHz, of RMS 1; no word is in two."""
    rng = random.Random(f"recordings {seed} {talker.name}")
    made, parts, wanted = [], [], rng.uniform(*_UTTERANCE)
    for path in rng.sample(talker.files, len(talker.files)):
        word = _read(path)
        if not _WORD[0] <= len(word) / audio.SAMPLE_RATE <= _WORD[1]:
            continue
        pause = np.zeros(round(rng.uniform(*_PAUSE) * audio.SAMPLE_RATE))
        parts += [pause, word / rms(word)]
        if sum(map(len, parts)) >= wanted * audio.SAMPLE_RATE:
            joined = np.concatenate([*parts, pause])
            made.append(joined / rms(joined))
            parts, wanted = [], rng.uniform(*_UTTERANCE)
        if len(made) == _MOST:
            break
    return made


def make(
    output: str | os.PathLike, sources: Sequence[Path] = SOURCES, *, dev: int = 60, test: int = 120, seed: int = 0
) -> dict | None:
    """Make the corpus in ``output``.

    Args:
        sources: folders of folders of files, see ``find_talkers``.
        dev, test: mixtures.

    Returns:
        the manifest; None if the corpus is there already.

    Raises:
        ValueError: ``output`` holds something else, or the recordings are too few; the message names the way out.
        FileNotFoundError: there are no recordings.
    """
    for name, number in (("dev", dev), ("test", test)):
        if number < 1:
            raise ValueError(f"--{name} must be at least 1 mixture, got {number}")
    sources = [Path(source).absolute() for source in sources]
    arguments = {
        "sources": [str(path) for path in sources],
        "dev": dev,
        "test": test,
        "seed": seed,
        "version": _VERSION,
    }
    output = Path(output).absolute()
    folder = CorpusFolder(output, Path(MANIFEST).stem)
    if folder.is_there(arguments):
        return None
    splits = split_talkers(find_talkers(sources))
    spoken: dict[str, list[np.ndarray]] = {}
    talkers = {speaker: talker for table in splits.values() for speaker, talker in table.items()}
    for speaker, talker in tqdm(talkers.items(), desc="talkers", disable=None):
        spoken[speaker] = utterances_of(talker, seed=seed)
    usable = {split: [s for s in table if len(spoken[s]) >= _FEWEST] for split, table in splits.items()}
    for split, found in usable.items():
        if len(found) < 2:
            raise ValueError(
                f"{len(found)} talkers with {_FEWEST} utterances for {split} in {', '.join(map(str, sources))}: two "
                f"are needed; {_INSTALL}, or give more with --source"
            )
    folder.begin(arguments)
    write_speakers(output / "train.json", {s: _write_speaker(output, s, spoken[s], seed) for s in usable["train"]})
    for split, number in (("dev", dev), ("test", test)):
        speakers = _write_mixtures(output / split, {s: spoken[s] for s in usable[split]}, number, seed)
        write_speakers(output / f"{split}.json", speakers)
    write_text(output / "SPEAKERS.TXT", _speakers_table(splits, spoken, usable))
    seconds = {s: sum(map(len, wavs)) / audio.SAMPLE_RATE for s, wavs in spoken.items()}
    manifest = {
        "what": "recordings of real people, joined by data/prepare/recordings.py",
        "arguments": arguments,
        "digest": _digest_of_files(talkers.values()),
        **{
            split: {"speakers": len(found), "minutes": round(sum(seconds[s] for s in found) / 60, 2)}
            for split, found in usable.items()
        },
    }
    folder.finish(manifest)
    return manifest


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0; 2 for a wrong argument, a folder in use or missing recordings; 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare.recordings",
        description="Make a small corpus of real people's recordings, from the sounds of two packages of Debian's "
        f"({_INSTALL}; GPL, version 2 or later): words joined to utterances, single voices for training, and two "
        "folders of two-talker mixtures like Libri2Mix's, dev and test. After an interruption, run the same command "
        "again.",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument(
        "--source",
        action="append",
        type=Path,
        metavar="DIR",
        help="a folder in which each folder holds one person's files and is named by the code of a language; may be "
        f"repeated (default: {' and '.join(map(str, SOURCES))})",
    )
    parser.add_argument("--dev", type=int, default=60, help="dev mixtures (default: 60)")
    parser.add_argument("--test", type=int, default=120, help="test mixtures (default: 120)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other utterances (default: 0)")
    args = parser.parse_args(argv)
    with report_errors() as outcome:
        manifest = make(args.output, args.source or SOURCES, dev=args.dev, test=args.test, seed=args.seed)
        if manifest is None:
            print(f"{args.output} is there already, made with the same arguments")
        else:
            found = (
                f"{split}: {manifest[split]['speakers']} talkers, {manifest[split]['minutes']:.1f} min"
                for split in SPLITS
            )
            print(f"{args.output}: {'; '.join(found)}")
    return outcome.status


def _sample_rate(path: Path) -> int:
    try:
        return sf.info(path).samplerate
    except sf.LibsndfileError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _read(path: Path) -> np.ndarray:
    """A word without the silences around it, [T] float64 at 16 kHz; empty if it is silent.

    Not by ``audio.read``: that warns of each of the hundreds of files that lack the mark of their end.
    """
    wav, rate = sf.read(path, always_2d=True)
    divisor = math.gcd(rate, audio.SAMPLE_RATE)
    wav = resample_poly(wav.mean(axis=1), audio.SAMPLE_RATE // divisor, rate // divisor)
    return trim(wav)[0] if wav.any() else wav[:0]


def _write_speaker(output: Path, speaker: str, wavs: Sequence[np.ndarray], seed: int) -> list[Path]:
    rng = random.Random(f"levels {seed} {speaker}")
    paths = []
    for number, wav in enumerate(wavs):
        paths.append(output / "train" / speaker / "1" / f"{speaker}-1-{number:04d}.flac")
        audio.write(paths[-1], at_level(wav, rng.uniform(-28, -24)))
    return paths


def _write_mixtures(
    folder: Path, spoken: Mapping[str, Sequence[np.ndarray]], number: int, seed: int
) -> dict[str, list[Path]]:
    """Every talker is the target about as often as any other; returns speaker -> the files of that talker alone."""
    rng = random.Random(f"mixtures {seed} {folder.name}")
    names, speakers = [], {speaker: [] for speaker in spoken}
    for index, target in enumerate(itertools.islice(itertools.cycle(spoken), number)):
        interferer = rng.choice([speaker for speaker in spoken if speaker != target])
        one, other = rng.sample(range(len(spoken[target])), 2)
        third = rng.randrange(len(spoken[interferer]))
        name = f"{target}-{one:04d}-{other:04d}_{interferer}-{third:04d}-{index:04d}.wav"
        write_roles(folder, name, spoken[target][one], spoken[interferer][third], spoken[target][other], rng)
        names.append(name)
        speakers[target] += [folder / "s1" / name, folder / "aux_s1" / name]
        speakers[interferer].append(folder / "s2" / name)
    for role in ROLES:
        write_scp(folder / f"{role}.scp", {name: folder / role / name for name in names})
    return {speaker: paths for speaker, paths in speakers.items() if paths}


def _speakers_table(splits, spoken, usable) -> str:
    lines = ["; People, by what they said in Debian's packages.\n", "; ID | SUBSET | MINUTES | FOLDER\n"]
    for split, table in splits.items():
        for speaker, talker in table.items():
            minutes = sum(map(len, spoken[speaker])) / audio.SAMPLE_RATE / 60
            subset = split if speaker in usable[split] else "too short"
            lines.append(f"{speaker} | {subset} | {minutes:.2f} | {talker.name}\n")
    return "".join(lines)


def _digest_of_files(talkers) -> str:
    digest = hashlib.sha256()
    for path in itertools.chain.from_iterable(talker.files for talker in talkers):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"sha256 {digest.hexdigest()}"


if __name__ == "__main__":
    sys.exit(main())
