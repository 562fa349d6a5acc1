"""Training items from flac files: segments by seeking, against decoding whole files; on one process of the CPU."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from benchmarks.measure import Row, parser, side_by_side
from benchmarks.parts import speech
from data.extraction import OnTheFlyMixtures
from data.mixing import mix_published

LENGTHS = {"mixture": 48080, "enrolment": 64080}


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=14.0, help="of a file, as in LibriSpeech (%(default)s)")
    options.add_argument("--items", type=int, default=64, help="of a measurement (%(default)s)")
    options.add_argument("--step_seconds", type=float, help="of a training step of 128 items on one GPU, if known")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    items = 8 if args.toy else args.items
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        index = write_corpus(Path(name), seconds=4.1 if args.toy else args.seconds)
        mixtures = OnTheFlyMixtures(
            speakers=index, epoch_num=items, mix_length=LENGTHS["mixture"], regi_length=LENGTHS["enrolment"]
        )

        def plain() -> list:
            return [whole_files(mixtures, (0, number)) for number in range(items)]

        def ours() -> list:
            return [mixtures[0, number] for number in range(items)]

        seconds = side_by_side(plain, ours, device=torch.device("cpu"), repeats=args.repeats)
    print("\n| work | baseline (items/s) | ours (items/s) | ratio |\n" + "|---" * 4 + "|")
    row = Row("training items from flac, one process", *seconds)
    print(f"| {row.work} | {items / row.baseline:.0f} | {items / row.ours:.0f} | {row.baseline / row.ours:.2f} |")
    if args.step_seconds:
        needed = 128 / args.step_seconds
        print(f"\na GPU takes {needed:.0f} items/s: {needed * row.ours / items:.1f} loader processes feed it")
    return 0


def whole_files(mixtures: OnTheFlyMixtures, key: tuple[int, int]) -> dict[str, np.ndarray]:
    """The same item as ``mixtures[key]``, with each file decoded to its end before it is cut."""
    rng = np.random.default_rng([mixtures.seed, *key])
    first, second = rng.choice(len(mixtures.utterances), size=2, replace=False)
    chosen = rng.choice(len(mixtures.utterances[first]), size=2, replace=False)
    target, enrolment = (mixtures.utterances[first][i] for i in chosen)
    interferer = mixtures.utterances[second][rng.integers(len(mixtures.utterances[second]))]
    wavs = []
    for path, length in ((target, "mixture"), (interferer, "mixture"), (enrolment, "enrolment")):
        wav = sf.read(path, dtype="float32")[0]
        start = int(rng.random() * (len(wav) - LENGTHS[length] + 1))
        wavs.append(wav[start : start + LENGTHS[length]])
    return mix_published(*wavs, draw=rng.random())._asdict()


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
