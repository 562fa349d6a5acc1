"""A corpus of synthetic speech, to try everything without downloading anything: espeak-ng's voices, our own sentences.

    python -m data.prepare.synthetic --output synthetic --hours 1

Or, with ``--voices natural``, those of Kokoro, which sound like people: see data/prepare/natural_voices.py. The rest is
said of espeak-ng's; the folders are the same.

This is formant synthesis, not recorded speech: the voices differ (accent, timbre, fundamental frequency, length of the
vocal tract, speed), but one machine makes them all, and there is neither room nor noise. Scores on it say that the
machinery works; they say nothing about real speech.

    DIR/train/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac, <speaker>-<chapter>.trans.txt   as LibriSpeech
    DIR/train.json                                      speaker index, for training on mixtures made on the fly
    DIR/dev, DIR/test: mix_clean s1 s2 aux_s1           two-talker mixtures as in Libri2Mix, one name in all four
                       mix_clean.scp s1.scp ...         lists of these files
    DIR/dev.json, DIR/test.json                         speaker indices of s1, s2 and aux_s1
                       transcripts.json                 what s1, s2 and aux_s1 say, in full: s1 and s2 are cut to
                                                        the shorter of the two
    DIR/SPEAKERS.TXT                                    the voices' settings
    DIR/synthetic.json                                  the arguments; written last

Training, dev and test share no voice, no timbre (espeak-ng's "variant") and no sentence, also where their corpora have
different seeds. Each training speaker has its formants moved at random. The bytes depend on the arguments and the
versions of the packages, not on --jobs.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data.prepare.corpus_folder import CorpusFolder
from data.prepare.sentences import SPLITS
from data.prepare.sources import FormantVoices, NaturalVoices, Source
from data.prepare.utterances import ROLES, plan_mixtures, speakers_of, write_mixture, write_speakers_of
from data.prepare.voices import num_voices
from data.scp import write_scp
from data.speakers import write_speakers
from utils.errors import report_errors
from utils.files import write_json, write_text
from utils.machine import available_cores
from utils.workers import run_jobs

MANIFEST = "synthetic.json"
_VERSION = 3  # of what is made of the arguments; a change of it raises it


@dataclass(frozen=True)
class Size:
    """How much is made: hours of training speech, numbers of training speakers, and of dev and test mixtures."""

    hours: float
    speakers: int
    dev: int
    test: int

    @classmethod
    def of(cls, hours: float, *, speakers: int | None = None, dev: int | None = None, test: int | None = None) -> Size:
        """Fill in what is not given: 90 s a speaker, 120 mixtures an hour, neither too few nor too many.

        Raises:
            ValueError: a value that makes no corpus.
        """
        if not (math.isfinite(hours) and hours > 0):
            raise ValueError(f"--hours must be positive, got {hours}")
        mixtures = min(max(round(120 * hours), 24), 200)
        size = cls(
            float(hours),
            min(max(round(40 * hours), 16), 1000) if speakers is None else speakers,
            mixtures if dev is None else dev,
            mixtures if test is None else test,
        )
        most = num_voices("train")
        if not 2 <= size.speakers <= most:
            raise ValueError(f"--speakers must be 2 to {most}, which is how many voices there are, got {size.speakers}")
        for name in ("dev", "test"):
            if getattr(size, name) < 1:
                raise ValueError(f"--{name} must be at least 1 mixture, got {getattr(size, name)}")
        return size

    def num_speakers(self, split: str, source: Source) -> int:
        return self.speakers if split == "train" else source.num_held_out(getattr(self, split))


def make(
    output: str | os.PathLike,
    size: Size,
    *,
    seed: int = 0,
    jobs: int | None = None,
    source: Source | None = None,
) -> dict | None:
    """Make the corpus in ``output``.

    Args:
        source: of the voices; None: espeak-ng.

    Returns:
        the manifest; None if the corpus is there already.

    Raises:
        ValueError: ``output`` holds something else; the message names the way out.
        EspeakError, KokoroError: what says the sentences is not installed, or cannot be used.
    """
    output = Path(output).absolute()
    source = source or FormantVoices()
    if jobs is not None and jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    arguments = {**asdict(size), "seed": seed, "version": _VERSION, **source.arguments}
    folder = CorpusFolder(output, Path(MANIFEST).stem)
    if folder.is_there(arguments):
        return None
    versions = source.versions()  # before anything is made, because it may be missing
    with_versions = {**arguments, "versions": versions}
    folder.is_there(with_versions)  # what is there unfinished must be of the same ones
    folder.begin(with_versions)

    voices = {split: source.draw(split, size.num_speakers(split, source), seed=seed) for split in SPLITS}
    plans = {
        split: plan_mixtures(split, voices[split], getattr(size, split), seed=seed, akin=source.akin)
        for split in ("dev", "test")
    }
    share, groups = size.hours * 3600 / size.speakers, source.together(voices["train"])
    tasks: list[Callable[[], object]] = [
        partial(write_speakers_of, output / "train", group, seconds=share, seed=seed, say=source.say)
        for group in groups
    ]
    for split, plan in plans.items():
        tasks += [
            partial(write_mixture, output / split, mixture, voices[split], seed=seed, say=source.say)
            for mixture in plan
        ]
    results = _run_all(tasks, jobs=jobs or available_cores())

    lengths: dict[str, dict[Path, float]] = {}
    for written in results[: len(groups)]:
        lengths |= written
    seconds = {speaker: sum(files.values()) for speaker, files in lengths.items()}
    write_speakers(output / "train.json", {speaker: list(files) for speaker, files in lengths.items()})
    for split, plan in plans.items():
        for role in ROLES:
            write_scp(output / split / f"{role}.scp", {m.name: output / split / role / m.name for m in plan})
        write_json(output / split / "transcripts.json", {m.name: m.transcripts for m in plan})
        write_speakers(output / f"{split}.json", speakers_of(output / split, plan))
    write_text(output / "SPEAKERS.TXT", _speakers_table(source, voices, seconds))
    manifest = {
        "what": f"{source.what}, made by data/prepare/synthetic.py",
        "arguments": arguments,
        **versions,
        "train": {
            "speakers": size.speakers,
            "utterances": sum(map(len, lengths.values())),
            "hours": round(sum(seconds.values()) / 3600, 4),
        },
        **{split: {"speakers": len(voices[split]), "mixtures": len(plan)} for split, plan in plans.items()},
    }
    folder.finish(manifest)
    return manifest


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0; 2 for a wrong argument, a folder in use or a missing package; 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare.synthetic",
        description="Make a corpus of synthetic speech (espeak-ng) for training, validating and testing target speaker "
        "extraction: single voices in a tree like LibriSpeech's with a speaker index, train.json, and two folders of "
        "two-talker mixtures like Libri2Mix's, dev and test, with lists. Voices and sentences of the three are "
        "disjoint. Not real speech: for trying things out, not for results. An hour takes half a minute on two cores, "
        "and 0.15 GB. After an interruption, run the same command again.",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--hours", type=float, default=1.0, help="hours of training speech (default: 1)")
    parser.add_argument("--speakers", type=int, help="training speakers (default: 40 an hour, 16 to 1000)")
    parser.add_argument("--dev", type=int, help="dev mixtures (default: 120 an hour, 24 to 200)")
    parser.add_argument("--test", type=int, help="test mixtures (default: 120 an hour, 24 to 200)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other voices and sentences (default: 0)")
    parser.add_argument(
        "--voices",
        choices=("espeak-ng", "natural"),
        default="espeak-ng",
        help="natural: of Kokoro-82M, see docs/natural_voices.md; an hour takes ten minutes on two cores (default: "
        "espeak-ng)",
    )
    parser.add_argument(
        "--shifts",
        type=int,
        metavar="N",
        help="natural: training talkers that are made of one, 1 to 3 (default: 3); to make them costs next to nothing",
    )
    parser.add_argument(
        "--kokoro-voices",
        metavar="DIR",
        type=Path,
        help="natural: where they lie (default: the environment variable KOKORO_VOICES, or where `make natural` "
        "puts them)",
    )
    parser.add_argument("--jobs", type=int, help="processes (default: the cores); the corpus does not depend on it")
    args = parser.parse_args(argv)
    with report_errors() as outcome:
        size = Size.of(args.hours, speakers=args.speakers, dev=args.dev, test=args.test)
        manifest = make(args.output, size, seed=args.seed, jobs=args.jobs, source=_source(args))
        if manifest is None:
            print(f"{args.output} is there already, made with the same arguments")
        else:
            train, dev, test = (manifest[split] for split in SPLITS)
            print(
                f"{args.output}: {manifest['what']}. train: {train['hours']:.2f} h, {train['utterances']} utterances "
                f"of {train['speakers']} speakers; dev: {dev['mixtures']} mixtures of {dev['speakers']} others; test: "
                f"{test['mixtures']} of {test['speakers']} others"
            )
    return outcome.status


def _source(args: argparse.Namespace) -> Source:
    if args.voices == "natural":
        return NaturalVoices(args.kokoro_voices, **({} if args.shifts is None else {"shifts": args.shifts}))
    for name in ("shifts", "kokoro_voices"):
        if getattr(args, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for --voices natural")
    return FormantVoices()


def _run_all(tasks: Sequence[Callable[[], object]], *, jobs: int) -> list:
    """Results in the order of the tasks."""
    results: list = [None] * len(tasks)
    with contextlib.closing(run_jobs(list(enumerate(tasks)), _start, [torch.device("cpu")] * jobs)) as finished:
        for done in tqdm(finished, total=len(tasks), desc="speakers and mixtures", disable=None):
            if done.error:
                raise OSError(done.error)
            results[done.job[0]] = done.result
    return results


def _start(_device: torch.device) -> Callable[[tuple[int, Callable[[], object]]], object]:
    return lambda job: job[1]()


def _speakers_table(source: Source, voices: Mapping[str, Mapping[str, Any]], seconds: Mapping[str, float]) -> str:
    lines = [f"; {source.head}\n", "; ID | SEX | SUBSET | MINUTES | VOICE\n"]
    for split, table in voices.items():
        for speaker, voice in table.items():
            minutes = f"{seconds[speaker] / 60:.2f}" if speaker in seconds else "-"
            lines.append(f"{speaker} | {voice.sex} | {split} | {minutes} | {voice.describe()}\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
