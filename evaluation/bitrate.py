"""How many bits a second the units of a folder need, repeats removed: the entropy of their distribution, times how many
there are, over the seconds."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data import arrays, lengths
from data.scp import AUDIO_SUFFIXES
from data.token_corpus import TOKENS_RECORD
from data.utterances import read_utterances
from utils.errors import first_few, report_errors

FRAME_RATE = 50.0  # of units whose folder has no record


def bitrate(folder: str | os.PathLike, *, utterances: str | os.PathLike | None = None) -> dict[str, Any]:
    """Bits a second of a folder of units.

    Args:
        folder: of NAME.npy, [N] or [N, 1]; of all folders below it too.
        utterances: list of the recordings that the units are of; None: the seconds are those of the frames.

    Returns:
        ``files``, ``units`` (repeats removed), ``seconds``, ``units_per_second``, ``entropy_bits``, ``bitrate``.

    Raises:
        FileNotFoundError, ValueError: there are no units, a file of them is broken, or a recording is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of units: {folder}")
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*.npy"))}
    # Hidden are files that another run has not finished, and folders of its own.
    files = {str(p.with_suffix("")): path for p, path in found.items() if not any(x.startswith(".") for x in p.parts)}
    if not files:
        raise ValueError(f"{folder} holds no .npy files of units")
    counts, frames = np.zeros(0, dtype=np.int64), 0
    for path in files.values():
        array = arrays.read_tokens(path)
        if array.ndim > 2 or array.ndim == 2 and array.shape[1] != 1 or not array.size or array.min() < 0:
            raise ValueError(f"{path} holds an array {list(array.shape)}; units are [N] or [N, 1], N and they above 0")
        units = array.reshape(-1).astype(np.int64)
        frames += len(units)
        found = np.bincount(units[np.r_[True, units[1:] != units[:-1]]], minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    seconds = frames / frame_rate(folder) if utterances is None else _seconds(files, utterances)
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log2(shares)).sum()) + 0.0
    rate = int(counts.sum()) / seconds
    return {
        "files": len(files), "units": int(counts.sum()), "seconds": seconds, "units_per_second": rate,
        "entropy_bits": entropy, "bitrate": entropy * rate,
    }  # fmt: skip


def frame_rate(folder: Path) -> float:
    """Frames a second, as the record of a folder says."""
    path = folder / TOKENS_RECORD
    if not path.is_file():
        return FRAME_RATE
    try:
        record: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record["sample_rate"] / record["hop_length"]
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise ValueError(f"{path} does not tell sample_rate and hop_length as numbers ({error!r})") from error


def _seconds(files: Mapping[str, Path], utterances: str | os.PathLike) -> float:
    paths = {_stem(name): path for name, path in read_utterances(utterances).items()}
    if missing := [name for name in files if name not in paths]:
        raise ValueError(f"{utterances} has no recordings of {first_few(missing)}")
    found, broken = lengths.measure([paths[name] for name in files])
    if broken:
        raise ValueError(first_few(broken.values()))
    return sum(one.samples / one.sample_rate for one in (found[str(paths[name])] for name in files))


def _stem(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in AUDIO_SUFFIXES else name


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="of units, NAME.npy, as inference.py --tokenize makes them")
    parser.add_argument("--utterances", metavar="LIST", help="recordings that they are of; else seconds of the frames")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    with report_errors(args.debug) as outcome:
        print(json.dumps(bitrate(args.folder, utterances=args.utterances)))
        outcome.status = 0
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
