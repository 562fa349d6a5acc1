"""A folder of lists whose enrolled talkers are not in the mixtures: nothing should come out of these.

    python -m data.prepare.absent libri2mix_dev --output libri2mix_dev_absent

The mixtures are those of ``mix_clean.scp``; the enrolment of each is that of another mixture, ``aux_s1.scp``, whose
talker is not in this one. Who talks is read from the names of the lists, as Libri2Mix and ``data.prepare.synthetic``
make them: ``1272-128104-0000_2035-147961-0014.wav`` is of talkers 1272, who is enrolled, and 2035. The talker is drawn
from all that are not in the mixture, and then one of his enrolments; the draws follow from the seed and the name.

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

from data.scp import read_aligned, write_scp
from utils.errors import first_few, report_errors

_TALKERS = re.compile(r"([^-_/]+)-[^_/]*_([^-_/]+)-[^_/]*$")


def absent_enrolments(names: Sequence[str], *, seed: int = 0) -> dict[str, str]:
    """Name of a mixture -> the name of the one whose enrolment it gets.

    Raises:
        ValueError: names that do not say who talks, or a mixture that has all enrolled talkers in it.
    """
    talkers = {name: match.groups() for name in names if (match := _TALKERS.search(name))}
    if unknown := [name for name in names if name not in talkers]:
        raise ValueError(
            f"the names of {len(unknown)} mixtures do not say who talks, as in 1272-128104-0000_2035-147961-0014.wav: "
            f"{first_few(unknown)}. Write the list of enrolments by hand, a line 'name path' for each mixture"
        )
    enrolled: dict[str, list[str]] = {}
    for name in sorted(names):
        enrolled.setdefault(talkers[name][0], []).append(name)
    chosen = {}
    for name in names:
        others = [talker for talker in enrolled if talker not in talkers[name]]
        if not others:
            raise ValueError(f"all talkers that are enrolled in the list are in {name}: a third one is needed")
        rng = random.Random(f"absent {seed} {name}")
        chosen[name] = rng.choice(enrolled[rng.choice(others)])
    return chosen


def make(folder: str | os.PathLike, output: str | os.PathLike, *, seed: int = 0) -> int:
    """Write the lists; returns how many mixtures there are.

    Raises:
        FileNotFoundError: a list of the folder is missing.
        ValueError: lists that do not fit together, or as for ``absent_enrolments``; or ``output`` is the same folder.
    """
    folder, output = Path(folder).absolute(), Path(output).absolute()
    if output.exists() and output.samefile(folder):
        raise ValueError(f"{output} holds the lists of present talkers: choose another folder")
    entries: Mapping[str, Mapping[str, Path]] = dict(
        read_aligned({"mixture": folder / "mix_clean.scp", "enrolment": folder / "aux_s1.scp"})
    )
    chosen = absent_enrolments(list(entries), seed=seed)
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
