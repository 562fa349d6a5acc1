"""Training items from flac files: segments by seeking, against decoding whole files; on the CPU.

First in one process, and beside it the decoding of the same segments and nothing else. Then as they reach a training
process, from loader processes.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
from torch.utils.data import Dataset

from benchmarks.measure import once, parser, prepare
from benchmarks.parts import speech
from data.audio import OneSegment
from data.extraction import OnTheFlyMixtures
from data.loading import TrainBatches
from data.mixing import mix_published

BATCH = 16  # items that a worker hands over at once


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--seconds", type=float, default=14.0, help="of a file, as in LibriSpeech (%(default)s)")
    options.add_argument("--items", type=int, default=128, help="of a measurement, and of a worker (%(default)s)")
    options.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="loader processes (%(default)s)")
    options.add_argument("--step_seconds", type=float, help="of a training step of 128 items on one GPU, if known")
    args = options.parse_args(argv)
    prepare(args)
    items = BATCH if args.toy else args.items
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        index = write_corpus(Path(name), seconds=4.1 if args.toy else args.seconds)
        whole, seeking, decoding = one_process(index, items, repeats=args.repeats)
        loaded = {workers: loader(index, items, workers=workers, repeats=args.repeats) for workers in args.workers}
    print("\n| work | baseline (items/s) | ours (items/s) | ratio | note |\n" + "|---" * 5 + "|")
    print(f"| training items from flac, one process | {whole:.0f} | {seeking:.0f} | {seeking / whole:.2f} |  |")
    print(f"| decoding alone | – | {decoding:.0f} | – | {100 * seeking / decoding:.0f} % of the time of an item |")
    for workers, (whole, seeking) in loaded.items():
        print(f"| {named(workers)} | {whole:.0f} | {seeking:.0f} | {seeking / whole:.2f} | batches of {BATCH} |")
    if args.step_seconds:
        needed = 128 / args.step_seconds
        fed = ", ".join(f"{named(workers)}: {rates[1] / needed:.1f}" for workers, rates in loaded.items())
        print(f"\na GPU takes {needed:.0f} items/s; GPUs that are fed: {fed}")
    return 0


def one_process(index: Path, items: int, *, repeats: int) -> list[float]:
    """Items a second from whole files, by seeking, and where the same segments are decoded and nothing else is done."""
    ours = mixtures(index, items)
    whole = WholeFiles(ours)
    crops = [crop for number in range(items) for crop in ours.draw((0, number))[0]]
    segments = [(path, start_of(sf.info(path).frames, length, place), length) for path, length, place in crops]
    works = (
        lambda: [whole[0, number] for number in range(items)],
        lambda: [ours[0, number] for number in range(items)],
        lambda: decode(segments),
    )
    return medians(lambda work: items / once(work, device=torch.device("cpu")), works, repeats=repeats)


def loader(index: Path, items: int, *, workers: int, repeats: int) -> list[float]:
    """Items a second from whole files, and by seeking, that a training process gets from its loader processes."""
    ours = mixtures(index, max(workers, 1) * (BATCH + items))
    return medians(lambda dataset: arriving(dataset, workers), (WholeFiles(ours), ours), repeats=repeats)


def arriving(dataset: Dataset, workers: int) -> float:
    """Items a second, from when each worker has handed over its first batch."""
    batches = TrainBatches(dataset=dataset, batch_size=BATCH, num_workers=workers)
    steps = batches.epoch(0)
    for _ in range(workers):
        next(steps)
    since = time.perf_counter()
    for _ in range(batches.steps_per_epoch - workers):
        next(steps)
    return BATCH * (batches.steps_per_epoch - workers) / (time.perf_counter() - since)


def medians(rate: Callable[[Any], float], works: Sequence[Any], *, repeats: int) -> list[float]:
    """The rate of each work, run in turns; a first round, in which what is done once is done, does not count."""
    rounds = [[rate(work) for work in works] for _ in range(1 + repeats)]
    return [statistics.median(rates) for rates in zip(*rounds[1:], strict=True)]


def mixtures(index: Path, items: int) -> OnTheFlyMixtures:
    return OnTheFlyMixtures(speakers=index, epoch_num=items, mix_length=48080, regi_length=64080)


class WholeFiles(Dataset):
    """The same items, with each file decoded to its end before it is cut."""

    def __init__(self, mixtures: OnTheFlyMixtures):
        self.mixtures = mixtures

    def __len__(self) -> int:
        return len(self.mixtures)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        crops, level = self.mixtures.draw(key)
        signals = []
        for path, length, place in crops:
            wav = sf.read(path, dtype="float32")[0]
            start = start_of(len(wav), length, place)
            signals.append(wav[start : start + length])
        return {name: torch.from_numpy(wav) for name, wav in mix_published(*signals, draw=level)._asdict().items()}


def start_of(samples: int, length: int, place: float) -> int:
    return int(place * (samples - length + 1))


def decode(segments: list[tuple[Path, int, int]]) -> None:
    for path, start, length in segments:
        with OneSegment(path) as file:
            file.seek(start)
            file.read(length, dtype="float32")


def named(workers: int) -> str:
    return f"loader, {workers} worker{'' if workers == 1 else 's'}"


def write_corpus(folder: Path, *, seconds: float, speakers: int = 8, utterances: int = 4) -> Path:
    """Flac files, and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    wavs = speech(speakers * utterances, round(16000 * seconds)).numpy()
    names = {}
    for number, wav in enumerate(wavs):
        sf.write(folder / f"{number}.flac", wav / np.abs(wav).max(), 16000)
        names.setdefault(f"speaker{number % speakers}", []).append(f"{number}.flac")
    (folder / "train.json").write_text(json.dumps(names))
    return folder / "train.json"


if __name__ == "__main__":
    sys.exit(main())
