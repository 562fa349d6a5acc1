"""Manifests of units: train.txt, val.txt, test.txt, and speakers.txt with the names of train.txt.

    python -m data.prepare.units --utterances DATA/index.json --tokens TOKENS --output DATA

Tokens are the folder that `python inference.py --tokenize` wrote, or a file with lines `name|17 17 296` or
`name<TAB>17,17,296`, where the name is a file's without suffix. The files are shuffled by the seed; the first part is
for testing, the next for validation. --split_from takes over the division of a folder's three lists.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data import arrays, audio
from data.manifest import SPEAKER_RULES, read_manifest, speaker_of, write_manifest
from data.plain_text import numbered_lines
from data.scp import output_path
from data.voices import read_utterances_with_speakers, write_names
from utils.errors import first_few, report_errors

SPLITS = ("train", "val", "test")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare.units", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--utterances", required=True, metavar="LIST", help="`name path` lines, or a speaker index")
    add("--tokens", required=True, type=Path, metavar="DIR|FILE", help="units, as above")
    add("--output", required=True, type=Path, metavar="DIR", help="folder for the manifests")
    add("--code_key", default="hubert", metavar="KEY", help="of the units in a line (%(default)s)")
    add("--valid", type=float, default=0.05, metavar="SHARE", help="of the files (%(default)s)")
    add("--test", type=float, default=0.05, metavar="SHARE", help="of the files (%(default)s)")
    add("--seed", type=int, default=42, help="of the shuffling (%(default)s)")
    add("--min_seconds", type=float, metavar="S", help="leave out shorter files")
    add("--split_from", type=Path, metavar="DIR", help="take each file's part from the three lists there, by path")
    add("--speaker_from", default="_", choices=SPEAKER_RULES, help="who speaks (%(default)s); manifest: the index says")
    args = parser.parse_args(argv)
    if not (0 <= args.valid and 0 <= args.test and args.valid + args.test < 1):
        parser.error("--valid and --test are shares, together below 1")
    with report_errors() as outcome:
        run(args)
        outcome.status = 0
    return outcome.status


def run(args: argparse.Namespace) -> None:
    listed = read_utterances_with_speakers(args.utterances, speaker_from=args.speaker_from)
    units = _units_of([(name, path) for name, path, _ in listed], args.tokens)
    lines, short = [], 0
    for name, path, speaker in listed:
        seconds = audio.num_samples(path) / audio.SAMPLE_RATE
        if args.min_seconds is not None and seconds < args.min_seconds:
            short += 1
            continue
        line: dict[str, Any] = {"audio": os.path.abspath(path), args.code_key: units[name], "duration": seconds}
        if args.speaker_from == "manifest":
            line["spk"] = speaker
        lines.append(line)
    parts = _taken_over(lines, args.split_from) if args.split_from else _divided(lines, args)
    for split, part in parts.items():
        write_manifest(args.output / f"{split}.txt", part)
    names = sorted({speaker_of(x["audio"], args.speaker_from, named=x.get("spk")) for x in parts["train"]})
    write_names(args.output / "speakers.txt", names)
    counts = ", ".join(f"{len(part)} in {split}.txt" for split, part in parts.items())
    left_out = f"; {short} shorter than {args.min_seconds:g} s left out" if short else ""
    print(f"{counts}; {len(names)} speakers{left_out}")


def _units_of(files: Sequence[tuple[str, str]], tokens: Path) -> dict[str, str]:
    """name -> its units as text."""
    if tokens.is_dir():
        paths = {name: output_path(tokens, name, ".npy") for name, _ in files}
        if missing := [str(path) for path in paths.values() if not path.is_file()]:
            raise FileNotFoundError(f"{len(missing)} of {len(paths)} files of tokens are missing: {first_few(missing)}")
        return {name: _text(arrays.read_tokens(path), path) for name, path in paths.items()}
    told: dict[str, str] = {}
    for number, line in numbered_lines(tokens, "file of units"):
        name, separator, values = line.partition("|") if "|" in line else line.partition("\t")
        try:
            units = [int(value) for value in values.replace(",", " ").split()]
        except ValueError:
            units = []
        if not separator or not units:
            raise ValueError(
                f"{tokens}, line {number}: `name|1 2 3` or `name<TAB>1,2,3` is expected, got {line[:80]!r}"
            )
        if name.strip() in told:
            raise ValueError(f"{tokens}, line {number}: {name.strip()} more than once")
        told[name.strip()] = " ".join(map(str, units))
    stems = {name: os.path.splitext(os.path.basename(path))[0] for name, path in files}
    if missing := [stem for stem in stems.values() if stem not in told]:
        raise ValueError(f"{tokens} has no units of {len(missing)} of {len(stems)} files: {first_few(missing)}")
    return {name: told[stem] for name, stem in stems.items()}


def _text(array: np.ndarray, path: Path) -> str:
    if array.ndim == 2 and array.shape[1] != 1 or array.ndim > 2 or not array.size:
        raise ValueError(f"{path}: units [N, 1] are needed, got {list(array.shape)}")
    return " ".join(map(str, array.reshape(-1).tolist()))


def _divided(lines: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    order = np.random.default_rng(args.seed).permutation(len(lines))
    shuffled = [lines[i] for i in order]
    test, valid = int(args.test * len(lines)), int(args.valid * len(lines))
    if len(lines) - test - valid < 1:
        raise ValueError(f"of {len(lines)} files none is left for training")
    return {"train": shuffled[test + valid :], "val": shuffled[test : test + valid], "test": shuffled[:test]}


def _taken_over(lines: list[dict[str, Any]], folder: Path) -> dict[str, list[dict[str, Any]]]:
    place: dict[str, str] = {}
    for split in SPLITS:
        if (folder / f"{split}.txt").is_file() and (folder / f"{split}.txt").stat().st_size:
            place |= {os.path.abspath(one.audio): split for one in read_manifest(folder / f"{split}.txt")}
    if unknown := [line["audio"] for line in lines if line["audio"] not in place]:
        raise ValueError(f"{folder} does not say where {len(unknown)} files belong: {first_few(unknown)}")
    return {split: [line for line in lines if place[line["audio"]] == split] for split in SPLITS}


if __name__ == "__main__":
    sys.exit(main())
