"""F0 contours of the files of manifests, kept on disk, and the statistics of their speakers.

    python -m data.prepare.f0 --manifest DATA/train.txt --output DATA/f0 --statistics DATA/f0_stats.json

The folder is the recipes' f0_cache. Each file is tracked once: what is there is not tracked again. The statistics are
mean and deviation in Hz of all voiced frames, of each speaker and over all.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data import audio
from data.manifest import SPEAKER_RULES, read_manifest, speaker_of
from data.pitch import SAMPLE_RATE, TRACKERS, PitchTracker, f0_statistics
from utils.errors import USER_ERRORS, describe, first_few, report_errors
from utils.files import require_writable_folder, write_json
from utils.machine import available_cores


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare.f0", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--manifest", required=True, nargs="+", type=Path, metavar="FILE", help="manifests; lines may be bare paths")
    add("--output", required=True, type=Path, metavar="DIR", help="folder of contours, the recipes' f0_cache")
    add("--statistics", required=True, type=Path, metavar="FILE.json", help="the recipes' f0_stats")
    add("--speaker_from", default="_", choices=SPEAKER_RULES, help="who speaks (%(default)s)")
    add("--audio_root", metavar="DIR", help="folder that paths are relative to (default: the manifest's)")
    add("--tracker", default="yaapt", choices=TRACKERS, help="(%(default)s)")
    add("--f0_min", type=float, metavar="HZ", help="(default: the tracker's)")
    add("--f0_max", type=float, metavar="HZ", help="(default: the tracker's); 600 for voices around 400 Hz")
    add("--jobs", type=int, default=available_cores(), metavar="N", help="processes (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error("--jobs must be above 0")
    with report_errors() as outcome:
        outcome.status = run(args)
    return outcome.status


def run(args: argparse.Namespace) -> int:
    """Returns the exit status: 1 if a file failed."""
    if args.statistics.suffix != ".json":
        raise ValueError(f"--statistics is a .json file, got {args.statistics}")
    lines = [one for manifest in args.manifest for one in read_manifest(manifest, audio_root=args.audio_root)]
    speakers = {one.audio: speaker_of(one.audio, args.speaker_from, named=one.speaker) for one in lines}
    require_writable_folder(args.output)
    require_writable_folder(args.statistics.parent)
    tracker = PitchTracker(tracker=args.tracker, f0_min=args.f0_min, f0_max=args.f0_max, cache=args.output)
    by_speaker: dict[str, list[np.ndarray]] = {name: [] for name in sorted(set(speakers.values()))}
    failed, unvoiced, frames, voiced = [], [], 0, 0
    found = _tracked(list(speakers), tracker, min(args.jobs, len(speakers)))
    for path, contour in tqdm(found, total=len(speakers), unit="file"):
        if isinstance(contour, str):
            failed.append(f"{path}: {contour}")
            continue
        by_speaker[speakers[path]].append(contour)
        frames, voiced = frames + len(contour), voiced + int((contour != 0).sum())
        if not contour.any():
            unvoiced.append(path)
    statistics = {name: f0_statistics(contours) for name, contours in by_speaker.items()}
    if silent := [name for name, found in statistics.items() if found is None]:
        print(f"warning: no voiced frame, and so no statistics, of the speakers {first_few(silent)}", file=sys.stderr)
    content: dict[str, Any] = {"speakers": {name: found for name, found in statistics.items() if found}}
    whole = f0_statistics([contour for contours in by_speaker.values() for contour in contours])
    write_json(args.statistics, ({"global": whole} if whole else {}) | content)
    share = 100 * voiced / frames if frames else 0.0
    print(f"{len(speakers) - len(failed)} files, {share:.1f} % of the frames voiced; {args.statistics}")
    if unvoiced:
        print(f"{len(unvoiced)} files without a voiced frame: {first_few(unvoiced, 20)}")
    for problem in failed:
        print(f"failed: {problem}", file=sys.stderr)
    return 1 if failed else 0


def _tracked(paths: Sequence[str], tracker: PitchTracker, jobs: int) -> Iterator[tuple[str, np.ndarray | str]]:
    """Of each file its contour, or what is wrong with it."""
    one = functools.partial(_track, tracker)
    if jobs == 1:
        yield from zip(paths, map(one, paths), strict=True)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from zip(paths, pool.map(one, paths, chunksize=4), strict=True)


def _track(tracker: PitchTracker, path: str) -> np.ndarray | str:
    try:
        wav = audio.read(path, sample_rate=SAMPLE_RATE)
        if not len(wav):
            raise ValueError(f"{path} holds no samples")
        return tracker(wav, what=path).f0
    except USER_ERRORS as error:
        return describe(error)


if __name__ == "__main__":
    sys.exit(main())
