"""A tree of recordings as 16 kHz mono 16-bit .wav files, the tree kept.

    python -m data.prepare.resample --input VCTK/wav48 --output DATA/wav --pad 1280 --suffix mic2.flac

With --pad, zeros at the end make each file a multiple of so many samples; one that is a multiple stays as it is. With
--trim, what lies at either end more than 20 dB below the loudest part is left out. What is there already stays.
DIR/files.scp lists what was made, `name path` lines, as inference.py and data.prepare.units read them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data import audio
from data.scp import AUDIO_SUFFIXES, output_paths, write_scp
from data.writing import write
from utils.errors import USER_ERRORS, describe, first_few, report_errors
from utils.files import require_writable_folder
from utils.machine import available_cores

WINDOW, STEP = 2048, 512  # samples, of the loudness that is trimmed by
BELOW_PEAK = 20.0  # dB
LIST = "files.scp"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare.resample",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--input", required=True, type=Path, metavar="DIR", help="folder with the recordings, at any depth")
    add("--output", required=True, type=Path, metavar="DIR", help="folder for the same tree")
    add("--pad", type=int, metavar="SAMPLES", help="zeros at the end, up to the next multiple")
    add("--trim", action="store_true", help="leave out the quiet at either end")
    add("--suffix", metavar="TEXT", help="only files whose name ends so (default: all audio)")
    add("--jobs", type=int, default=available_cores(), metavar="N", help="files at a time (default: %(default)s)")
    add("--overwrite", action="store_true", help="make again what is already there")
    args = parser.parse_args(argv)
    if args.jobs < 1 or (args.pad is not None and args.pad < 1):
        parser.error("--jobs and --pad must be above 0")
    with report_errors() as outcome:
        outcome.status = run(args)
    return outcome.status


def run(args: argparse.Namespace) -> int:
    """Returns the exit status: 1 if a file failed."""
    files = find(args.input, args.suffix)
    require_writable_folder(args.output)
    names = {os.path.relpath(path, args.input): path for path in files}
    outputs = output_paths(args.output, names, ".wav")
    clash = [str(path) for name, path in names.items() if outputs[name].resolve() == path.resolve()]
    if clash:
        raise ValueError(f"{first_few(clash)} would be written over itself: choose another --output")
    todo = [(path, outputs[name]) for name, path in names.items() if args.overwrite or not outputs[name].is_file()]

    def one(pair: tuple[Path, Path]) -> str | None:
        try:
            convert(*pair, pad=args.pad, trim=args.trim)
        except USER_ERRORS as error:
            return f"{pair[0]}: {describe(error)}"
        return None

    with ThreadPoolExecutor(args.jobs) as pool:
        failed = [problem for problem in tqdm(pool.map(one, todo), total=len(todo), unit="file") if problem]
    for problem in failed:
        print(f"failed: {problem}", file=sys.stderr)
    made = {os.path.splitext(name)[0]: path for name, path in outputs.items() if path.is_file()}
    if spaced := [name for name in made if any(c.isspace() for c in name)]:
        print(f"no {LIST}: its names cannot hold white space, as {first_few(spaced)} do", file=sys.stderr)
    else:
        write_scp(args.output / LIST, made)
    print(f"{len(todo) - len(failed)} files made, {len(files) - len(todo)} there already, {len(failed)} failed")
    return 1 if failed else 0


def find(folder: Path, suffix: str | None) -> list[Path]:
    """The recordings below a folder, in the order of their names."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    endings = (suffix,) if suffix else AUDIO_SUFFIXES
    found = [path for path in folder.rglob("*") if path.is_file() and path.name.lower().endswith(tuple(endings))]
    if not found:
        raise ValueError(f"{folder} holds no file that ends in {', '.join(endings)}")
    return sorted(found)


def convert(source: Path, output: Path, *, pad: int | None = None, trim: bool = False) -> None:
    """One file; the arguments are those of the command."""
    wav = audio.read(source)
    if not len(wav):
        raise ValueError(f"{source} holds no samples")
    wav = trimmed(wav) if trim else wav
    if pad:
        wav = np.pad(wav, (0, -len(wav) % pad))
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output, wav)


def trimmed(wav: np.ndarray) -> np.ndarray:
    """Without what lies at either end more than 20 dB below the loudest window; silence as it is."""
    padded = np.pad(wav.astype(np.float64), WINDOW // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP]
    power = (windows**2).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-BELOW_PEAK / 10)) if power.max() > 0 else []
    if not len(loud):
        return wav
    return wav[loud[0] * STEP : min((loud[-1] + 1) * STEP, len(wav))]


if __name__ == "__main__":
    sys.exit(main())
