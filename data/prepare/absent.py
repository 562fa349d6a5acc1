"""A folder of lists whose enrolled talkers are not in the mixtures: nothing should come out of these.

    python -m data.prepare.absent libri2mix_dev --output libri2mix_dev_absent

The mixtures are those of ``mix_clean.scp``; the enrolment of each is that of another mixture, ``aux_s1.scp``, whose
talker is not in this one. Who talks is told by the speaker index beside the folder (``dev.json`` of ``dev``, as this
project's corpora leave it), which has the files of ``s1.scp`` and ``s2.scp``; where there is none, by the names of the
mixtures, if they are Libri2Mix's: ``1272-128104-0000_2035-147961-0014.wav`` is of talker 1272, who is enrolled, and
2035. The talker is drawn from all that are not in the mixture, and then one of his enrolments; the draws follow from
the seed and the name.

The output folder holds ``mix_clean.scp`` and ``aux_s1.scp``, for extraction and, as ``cv_absent_path``, for validation.
No audio is written.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.scp import read_aligned, read_scp, write_scp
from data.speakers import read_index
from utils.errors import first_few, report_errors

_UTTERANCE = "([^-_/]+)-[^-_/]+-[^-_/]+"  # LibriSpeech's name of one
_MIXTURE = re.compile(rf"(?:.*/)?{_UTTERANCE}_{_UTTERANCE}")
_ROLES = ("s1", "s2")
_BY_HAND = "Or write the list of enrolments by hand, a line 'name path' for each mixture"


def absent_enrolments(talkers: Mapping[str, Sequence[str]], *, seed: int = 0) -> dict[str, str]:
    """Name of a mixture -> the name of the one whose enrolment it gets.

    Args:
        talkers: name -> who talks in the mixture, the enrolled one first.

    Raises:
        ValueError: a mixture has all enrolled talkers in it.
    """
    enrolled: dict[str, list[str]] = {}
    for name in sorted(talkers):
        enrolled.setdefault(talkers[name][0], []).append(name)
    chosen = {}
    for name, inside in talkers.items():
        others = [talker for talker in enrolled if talker not in inside]
        if not others:
            raise ValueError(f"all talkers that are enrolled in the list are in {name}: a third one is needed")
        rng = random.Random(f"absent {seed} {name}")
        chosen[name] = rng.choice(enrolled[rng.choice(others)])
    return chosen


def read_talkers(folder: Path, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """name -> who talks in the mixture, the enrolled one first.

    Raises:
        OSError, ValueError: the index beside the folder, or its lists, cannot be read or lack a talker; or there is no
            index, and a name does not say who talks.
    """
    index = Path(f"{folder}.json")
    if index.is_file():
        speakers = {os.path.realpath(file): talker for talker, files in read_index(index).items() for file in files}
        tables = [read_scp(folder / f"{role}.scp") for role in _ROLES]
        found = {name: [speakers.get(os.path.realpath(table.get(name, ""))) for table in tables] for name in names}
        where = f"{index} and the lists {' and '.join(f'{role}.scp' for role in _ROLES)} of {folder}"
    else:
        matches = {name: _MIXTURE.fullmatch(os.path.splitext(name)[0]) for name in names}
        found = {name: match.groups() if match else [None] for name, match in matches.items()}
        where = f"there is no {index}, and names, which should be as 1272-128104-0000_2035-147961-0014.wav,"
    if unknown := [name for name, talkers in found.items() if None in talkers]:
        of_these = f"in {len(unknown)} of {len(names)} mixtures: {first_few(unknown)}"
        raise ValueError(f"{where} do not tell who talks {of_these}. {_BY_HAND}")
    return {name: tuple(talkers) for name, talkers in found.items()}


def make(folder: str | os.PathLike, output: str | os.PathLike, *, seed: int = 0) -> int:
    """Write the lists; returns how many mixtures there are.

    Raises:
        FileNotFoundError: a list of the folder is missing.
        ValueError: lists that do not fit together, or as for ``absent_enrolments`` and ``read_talkers``; or ``output``
            is the same folder.
    """
    folder, output = Path(folder).absolute(), Path(output).absolute()
    if output.exists() and output.samefile(folder):
        raise ValueError(f"{output} holds the lists of present talkers: choose another folder")
    entries: Mapping[str, Mapping[str, Path]] = dict(
        read_aligned({"mixture": folder / "mix_clean.scp", "enrolment": folder / "aux_s1.scp"})
    )
    chosen = absent_enrolments(read_talkers(folder, list(entries)), seed=seed)
    output.mkdir(parents=True, exist_ok=True)
    write_scp(output / "aux_s1.scp", {name: entries[other]["enrolment"] for name, other in chosen.items()})
    write_scp(output / "mix_clean.scp", {name: paths["mixture"] for name, paths in entries.items()})
    return len(entries)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 where something does not fit and nothing was written."""
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare.absent",
        description="Write mix_clean.scp and aux_s1.scp with enrolments of talkers who are not in the mixtures.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="holds mix_clean.scp and aux_s1.scp")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the lists go")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other enrolments (default: 0)")
    args = parser.parse_args(argv)
    with report_errors() as outcome:
        number = make(args.folder, args.output, seed=args.seed)
        print(f"{number} mixtures, each with the enrolment of a talker who is not in it: {args.output}")
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
