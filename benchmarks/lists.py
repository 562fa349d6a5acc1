"""Extraction of a list of short files with one process and with several, against one piece at a time, plainly.

The plain way is measured on a few files in this process, and scaled to the list. Ours is what the program reports of
its processes' work, without loading, divided by their number; the wall clock, with loading, is printed too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import baseline
from benchmarks.measure import Row, matmul_peak, once, parser, prepare, show
from benchmarks.parts import LAYERS, checkpoint_of, extract_list, random_parts, speech, write_list
from utils.recipe import Recipe


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--files", type=int, default=8, help="in the list (%(default)s)")
    options.add_argument("--seconds", type=float, default=5.0, help="of each (%(default)s)")
    options.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="(%(default)s)")
    options.add_argument("--precision", default="fp32", help="of tokenizer, network and vocoder (%(default)s)")
    args = options.parse_args(argv)
    device = prepare(args)
    rows = []
    with random_parts(toy=args.toy) as (recipe, paths), tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        keys = [*paths, f"tokenizer_precision={args.precision}", f"inference_precision={args.precision}"]
        checkpoint = checkpoint_of(recipe, keys, folder)
        write_list(folder / "list", files=args.files, seconds=args.seconds)
        seconds = args.files * plain_seconds(recipe, paths, args, device)
        for processes in args.processes:
            threads = max(1, args.threads // processes)
            more = ["--proc", str(processes), "--threads", str(threads), "--gpus", args.device]
            run = extract_list(recipe, keys, checkpoint, folder / "list", folder / f"out{processes}", more)
            work = f"{args.files} files of {args.seconds:g} s, {args.precision}, {_number(processes, 'process')}"
            ours = run["work_seconds_per_second"] * run["audio_seconds"] / processes
            gpu = f", {run['peak_gpu_bytes'] / 2**30:.1f} GiB of the GPU's" if run["peak_gpu_bytes"] else ""
            wall = run["wall_seconds_per_second"] * run["audio_seconds"]
            memory = f"{run['peak_memory_bytes'] / 2**30:.1f} GiB of memory{gpu} at most in a process"
            rows.append(Row(work, seconds, ours, note=f"wall clock with loading {wall:.1f} s; {memory}"))
    show(rows, peaks={"fp32": matmul_peak(device)})
    return 0


def plain_seconds(recipe: Path, paths: list[str], args: argparse.Namespace, device: torch.device) -> float:
    """Of one file, the plain way."""
    model = Recipe(recipe, overrides=paths).build("model")["model"].to(device)
    where = dict(text.split("=") for text in paths)
    tokenizer = baseline.PlainTokenizer(where["wavlm_path"], where["kmeans_path"], LAYERS[args.toy], device)
    mixture, enrolment = speech(2, round(16000 * args.seconds)).to(device).split(1)
    used = enrolment[:, : model.regi_length]

    def plain() -> torch.Tensor:
        parts = (tokenizer, model.network, model.vocoder)
        return baseline.extract(*parts, mixture, used, mix_length=model.mix_length)

    plain()
    return statistics.median(once(plain, device=device) for _ in range(min(args.repeats, 3)))


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'es' if count > 1 else ''}"


if __name__ == "__main__":
    sys.exit(main())
