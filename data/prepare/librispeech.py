"""LibriSpeech folders to the speaker index that training mixtures are drawn from.

    python -m data.prepare.librispeech --output train_100_360.json train-clean-100 train-clean-360

The tree is LibriSpeech's own, ``speaker/chapter/speaker-chapter-utterance.flac`` (wav files too), at any depth below
the folders given. No audio is written or changed. Every header is opened. What cannot be used is listed and left out:
files that libsndfile cannot open, files without samples, names that do not fit their folders, and an utterance found
twice, which could become its own enrolment.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data.audio import SAMPLE_RATE, num_samples
from data.speakers import write_speakers
from utils.errors import report_errors

_SUFFIXES = (".flac", ".wav")
_SHOWN = 50  # how many problems are listed
_THREADS = 8  # headers are small and far apart: on a network drive nearly all the time is waiting


@dataclass(frozen=True)
class Corpus:
    """What was found. ``problems`` has a line for each file that was left out."""

    speakers: dict[str, list[Path]]
    seconds: float
    problems: list[str]

    @property
    def num_utterances(self) -> int:
        return sum(len(paths) for paths in self.speakers.values())

    @property
    def num_single(self) -> int:
        """Speakers with one utterance, who cannot be a target."""
        return sum(len(paths) < 2 for paths in self.speakers.values())


def scan(folders: Sequence[str | os.PathLike]) -> Corpus:
    """Find the utterances below ``folders`` and open their headers.

    The order depends neither on the file system nor on the order of the folders: speakers are sorted by name,
    utterances by theirs.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: a folder holds no flac or wav file.
    """
    utterances: dict[str, Path] = {}
    problems: list[str] = []
    seen: set[str] = set()
    for path in sorted((path for folder in folders for path in _audio_files(Path(folder), seen)), key=os.fspath):
        problem = _misplaced(path)
        if not problem and path.stem in utterances:
            problem = f"the same utterance as {utterances[path.stem]}"
        if problem:
            problems.append(f"{path}: {problem}")
        else:
            utterances[path.stem] = path

    paths = [utterances[name] for name in sorted(utterances)]
    speakers: dict[str, list[Path]] = {}
    samples = 0
    for path, result in zip(paths, _lengths(paths), strict=True):
        if isinstance(result, str):
            problems.append(result)
        else:
            speakers.setdefault(path.parent.parent.name, []).append(path)
            samples += result
    return Corpus({speaker: speakers[speaker] for speaker in sorted(speakers)}, samples / SAMPLE_RATE, problems)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0; 1 where nothing was written (see --strict); 2 for a wrong folder or argument."""
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare.librispeech",
        description="Write the speaker index (JSON) of LibriSpeech folders, for training on mixtures made on the fly. "
        "Files that cannot be used are listed and left out. Exit code 1, and no index, if no two speakers with two "
        "utterances each remain, or with --strict if any file had to be left out.",
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="train-clean-100, train-clean-360, ...")
    parser.add_argument("--output", required=True, metavar="FILE.json", help="paths below its folder become relative")
    parser.add_argument("--strict", action="store_true", help="write no index if any file cannot be used")
    args = parser.parse_args(argv)
    with report_errors() as outcome:
        outcome.status = _run(args.folders, Path(args.output), strict=args.strict)
    return outcome.status


def _run(folders: Sequence[str], output: Path, *, strict: bool) -> int:
    if output.suffix != ".json":
        raise ValueError(f"--output must end in .json, which is how the index is recognised, got {output}")
    corpus = scan(folders)
    for line in corpus.problems[:_SHOWN]:
        print(f"left out: {line}", file=sys.stderr)
    if len(corpus.problems) > _SHOWN:
        print(f"left out: {len(corpus.problems) - _SHOWN} more", file=sys.stderr)
    print(
        f"{len(corpus.speakers)} speakers, {corpus.num_utterances} utterances, {corpus.seconds / 3600:.2f} h; "
        f"{corpus.num_single} speakers with fewer than two utterances (training passes over them); "
        f"{len(corpus.problems)} files left out"
    )
    if strict and corpus.problems:
        print(f"{output} not written: --strict, and {len(corpus.problems)} files cannot be used", file=sys.stderr)
        return 1
    if len(corpus.speakers) - corpus.num_single < 2:
        print(
            f"{output} not written: mixtures need two speakers with two utterances each. Are these the folders that "
            f"hold speaker/chapter/speaker-chapter-utterance.flac? {', '.join(folders)}",
            file=sys.stderr,
        )
        return 1
    write_speakers(output, corpus.speakers)
    print(f"written: {output}")
    return 0


def _audio_files(folder: Path, seen: set[str]) -> Iterator[Path]:
    """Audio files below a folder, links followed, each real folder entered once (``seen``)."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}; give the path of train-clean-100, or of one like it")
    found = False
    for parent, names, files in os.walk(os.path.abspath(folder), followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back, or a folder given twice
            names.clear()
            found = True
            continue
        seen.add(real)
        names.sort()
        for file in files:
            if file.lower().endswith(_SUFFIXES) and not file.startswith("."):
                found = True
                yield Path(parent, file)
    if not found:
        raise ValueError(
            f"no flac or wav file below {folder}; LibriSpeech is expected there, unpacked, as "
            "speaker/chapter/speaker-chapter-utterance.flac"
        )


def _misplaced(path: Path) -> str | None:
    parts = path.stem.rsplit("-", 2)
    if len(parts) != 3 or not all(parts):
        return "the name is not of the form speaker-chapter-utterance"
    if parts[:2] != [path.parent.parent.name, path.parent.name]:
        return f"the name does not fit the folders, {path.parent.parent.name}/{path.parent.name}"
    return None


def _lengths(paths: Sequence[Path]) -> Iterable[int | str]:
    """Lengths in samples at 16 kHz, in the order of ``paths``; the reason instead where a file cannot be used."""

    def length(path: Path) -> int | str:
        try:
            return num_samples(path) or f"{path} holds no samples"
        except (ValueError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(_THREADS) as pool:
        yield from tqdm(pool.map(length, paths), total=len(paths), desc="headers", unit=" files", disable=None)


if __name__ == "__main__":
    sys.exit(main())
