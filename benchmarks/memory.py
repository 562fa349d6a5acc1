"""The most memory that extraction from a long mixture takes, which should not depend on its length."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measure import parser, prepare
from benchmarks.parts import checkpoint_of, extract_list, random_parts, write_list


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--minutes", type=float, nargs="+", default=[5.0, 60.0], help="of the mixtures (%(default)s)")
    args = options.parse_args(argv)
    prepare(args)
    print("\n| mixture | memory (MiB) | of the first | GPU memory (MiB) | seconds |\n" + "|---" * 5 + "|")
    first = None
    with random_parts(toy=args.toy) as (recipe, keys):
        options = ["--threads", str(args.threads), "--gpus", args.device]
        for minutes, peak, gpu, seconds in measured(recipe, keys, args.minutes, options):
            first = first or peak
            on_gpu = f"{gpu:.0f}" if gpu else "–"
            print(f"| {minutes:g} minutes | {peak:.0f} | {peak / first:.2f} | {on_gpu} | {seconds:.0f} |", flush=True)
    return 0


def measured(
    recipe: Path, keys: Sequence[str], minutes: Sequence[float], options: Sequence[str]
) -> Iterator[tuple[float, float, float | None, float]]:
    """Of each length: minutes, MiB of memory, MiB of the GPU's, and seconds; ``options`` are inference.py's."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        checkpoint = checkpoint_of(recipe, keys, folder)
        for length in minutes:
            lists = write_list(folder / f"list{length:g}", files=1, seconds=60 * length)
            run = extract_list(recipe, keys, checkpoint, lists, folder / f"out{length:g}", options)
            gpu, seconds = run["peak_gpu_bytes"], run["work_seconds_per_second"] * run["audio_seconds"]
            yield length, run["peak_memory_bytes"] / 2**20, gpu and gpu / 2**20, seconds


if __name__ == "__main__":
    sys.exit(main())
