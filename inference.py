"""Extract with any system of this project: a folder of lists, on any number of devices and processes, or one file.

A folder holds mix_clean.scp and aux_s1.scp (`name path` lines, matched by name). What is finished stays finished: the
same command does what is missing. The results do not depend on the number of processes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("inference")


@dataclass(frozen=True)
class Job:
    """One mixture to extract from."""

    name: str
    mixture: Path
    enrolment: Path
    output: Path
    tokens: Path | None = None  # where the predicted tokens are kept

    def done(self) -> bool:
        return self.output.exists() and (self.tokens is None or self.tokens.exists())


@dataclass(frozen=True)
class Cost:
    """What a job took, and the most memory, in bytes, that its process has used so far."""

    seconds: float
    memory: int
    gpu_memory: int | None


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python inference.py -scp test -config config/tselm_l.yaml -ckpt best.pth --output out "
        "-gpus cuda:0 cuda:1 -proc 8\n  python inference.py -config config/tselm_l.yaml -ckpt best.pth "
        "--mixture a.wav --enrolment b.wav --output c.wav",
    )
    add = parser.add_argument
    add("-scp", "--scp_dir", metavar="DIR", help="folder with mix_clean.scp and aux_s1.scp")
    add("--mixture", metavar="FILE", help="one mixture, instead of a folder")
    add("--enrolment", metavar="FILE", help="speech of the talker to extract from it")
    add("-config", "--config_path", required=True, metavar="FILE", help="recipe, a YAML file of config/")
    add("-ckpt", "--ckpt_path", required=True, metavar="FILE", help="trained or released checkpoint")
    add("--output", required=True, metavar="PATH", help="folder for the 16 kHz wav files; with --mixture, the file")
    add(
        "-gpus",
        "--gpus",
        nargs="+",
        default=["auto"],
        metavar="DEVICE",
        help="cuda:0 cuda:1 ..., or cpu (default: all)",
    )
    add(
        "-proc",
        "--proc",
        type=int,
        metavar="N",
        help="processes, divided over the devices (default: one a GPU or core)",
    )
    add(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="threads of a process on the CPU (default: 1); more can change the last bits of a result",
    )
    add("--overwrite", action="store_true", help="extract again what is already there")
    add("--save-tokens", action="store_true", help="keep the predicted tokens too, as OUTPUT/tokens/NAME.npy [N, K]")
    add("--report", action="store_true", help="evaluate when all is done (evaluate.py); includes --save-tokens")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; repeatable")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    if (args.scp_dir is None) == (args.mixture is None) or (args.mixture is None) != (args.enrolment is None):
        parser.error("give either -scp, or both --mixture and --enrolment")
    if args.proc is not None and args.proc < 1 or args.threads < 1:
        parser.error("-proc and --threads must be above 0")
    if args.mixture and (args.report or args.save_tokens):
        parser.error("--report and --save-tokens are for a folder of lists, -scp")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    # Threads that wait must sleep: by spinning they take the cores from the loaders and from other processes. It has
    # to be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from utils.errors import report_errors
    from utils.logging import setup_console

    setup_console()
    with report_errors(args.debug) as outcome:
        outcome.status = extract_all(args)
    if args.report and outcome.status in (0, 1):
        return evaluate_all(args) or outcome.status
    return outcome.status


def extract_all(args: argparse.Namespace) -> int:
    """Extract what is missing; returns the exit status: 1 if a file failed."""
    from tqdm import tqdm

    from utils.distributed import process_devices
    from utils.workers import run_jobs

    jobs = list_jobs(args)
    durations, broken = measure(jobs)
    note_settings(args, jobs)
    todo = [job for job in jobs if args.overwrite or args.mixture or not job.done()]
    if len(todo) < len(jobs):
        log.info("%d of %d files are there already", len(jobs) - len(todo), len(jobs))
    todo.sort(key=lambda job: -durations[job.name])  # the longest first, so that no process is left with it
    devices = process_devices(args.gpus, args.proc, jobs=len(todo))
    failed = {job.name: broken[job.name] for job in todo if job.name in broken}
    todo = [job for job in todo if job.name not in broken]
    seconds, since, costs = sum(durations[job.name] for job in todo), time.perf_counter(), {}
    settings = (args.config_path, args.ckpt_path, tuple(args.override), args.threads)
    form = "{desc}: {percentage:3.0f}% |{bar}| {n:.0f} of {total:.0f} s of audio [{elapsed}, {remaining} left]"
    with tqdm(total=seconds, desc=f"extracting, {len(devices)} processes", bar_format=form) as bar:
        for finished in run_jobs(todo, start, devices, *settings):
            bar.update(min(durations[finished.job.name], seconds - bar.n))  # sums of fractions may pass the total
            if finished.error:
                failed[finished.job.name] = finished.error
            else:
                costs[finished.job.name] = finished.result
    if costs:
        took, extracted = time.perf_counter() - since, sum(durations[name] for name in costs)
        log.info("%d files, %.1f s of audio in %.1f s, in %s", len(costs), extracted, took, args.output)
        note_speed(args, devices, list(costs.values()), audio_seconds=extracted, wall_seconds=took)
    for name, reason in failed.items():
        log.error("failed: %s: %s", name, reason)
    if failed:
        log.error("%d of %d files failed", len(failed), len(jobs))
    return 1 if failed else 0


def start(device, config_path: str, ckpt_path: str, overrides: tuple[str, ...], threads: int):
    """Load the system in this process; returns the function that does a job."""
    import torch

    from data import audio
    from models import load_extractor
    from models.interfaces import TokenExtractor
    from utils.distributed import select
    from utils.files import write_array
    from utils.machine import peak_gpu_memory, peak_memory

    select(device)
    if device.type == "cpu":
        # The number of threads changes the last bits of sums, so it must not follow from the number of processes.
        torch.set_num_threads(threads)
    extractor = load_extractor(config_path, ckpt_path, device=device, overrides=overrides)

    def extract(job: Job) -> Cost:
        since = time.perf_counter()
        enrolment = audio.read(job.enrolment)
        if isinstance(extractor, TokenExtractor):  # in parts, so that the length of a file does not matter
            tokens, parts = extractor.stream(
                lambda first, length: audio.read(job.mixture, start=first, length=length),
                audio.num_samples(job.mixture),
                enrolment,
            )
            if job.tokens is not None:
                write_array(job.tokens, tokens.to(torch.int32).numpy())
        else:
            parts = [extractor.extract(audio.read(job.mixture), enrolment)]
        audio.write_parts(job.output, (part.numpy() for part in parts), sample_rate=extractor.sample_rate)
        return Cost(time.perf_counter() - since, peak_memory(), peak_gpu_memory(device))

    return extract


def list_jobs(args: argparse.Namespace) -> list[Job]:
    """What there is to do.

    Raises:
        ValueError: lists that do not match, or names that cannot be file names inside the output folder.
    """
    from data.scp import output_path, read_aligned

    output = Path(args.output)
    if args.mixture:
        return [Job(args.mixture, Path(args.mixture), Path(args.enrolment), output)]
    folder = Path(args.scp_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of lists: {folder}")
    lists = {"mixture": folder / "mix_clean.scp", "enrolment": folder / "aux_s1.scp"}
    keep = args.save_tokens or args.report
    jobs = [
        Job(
            name,
            paths["mixture"],
            paths["enrolment"],
            output_path(output, name),
            output_path(output / "tokens", name, ".npy") if keep else None,
        )
        for name, paths in read_aligned(lists)
    ]
    owners: dict[Path, str] = {}
    for job in jobs:
        if job.output in owners:
            raise ValueError(f"{owners[job.output]} and {job.name} would both be written to {job.output}")
        owners[job.output] = job.name
    return jobs


def measure(jobs: list[Job]) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of every mixture, and the reasons of those that cannot be read."""
    from data import audio

    seconds, broken = {}, {}
    for job in jobs:
        try:
            seconds[job.name] = audio.num_samples(job.mixture) / audio.SAMPLE_RATE
        except (ValueError, OSError) as error:
            seconds[job.name], broken[job.name] = 0.0, str(error)
    return seconds, broken


def note_settings(args: argparse.Namespace, jobs: list[Job]) -> None:
    """Keep beside the outputs what they were made with, and refuse to mix outputs of different systems.

    Raises:
        ValueError: the folder holds outputs of another recipe or checkpoint.
    """
    from utils.files import write_json
    from utils.recipe import Recipe

    if args.mixture:
        return
    if not Path(args.ckpt_path).is_file():
        raise FileNotFoundError(f"no such checkpoint: {args.ckpt_path}")
    recipe = Recipe(args.config_path, overrides=args.override)
    with open(args.ckpt_path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    now = {"checkpoint": str(args.ckpt_path), "sha256": digest, "model": recipe.text("model")}
    path, runs = Path(args.output) / "inference.json", []
    if path.exists() and not args.overwrite and any(job.output.exists() for job in jobs):
        then = json.loads(path.read_text(encoding="utf-8"))
        if differing := [key for key in ("sha256", "model") if then.get(key) != now[key]]:
            what = " and ".join({"sha256": "checkpoint", "model": "recipe"}[key] for key in differing)
            raise ValueError(
                f"{args.output} holds outputs of another {what} (see {path}): choose another folder, or --overwrite"
            )
        runs = then.get("runs", [])
    write_json(path, {**now, "runs": runs})


def note_speed(
    args: argparse.Namespace, devices: list, costs: list[Cost], *, audio_seconds: float, wall_seconds: float
) -> None:
    """Add what this run cost to inference.json: the work of its jobs, and the wall clock, with loading."""
    import torch

    from utils.files import write_json
    from utils.machine import device_name

    if args.mixture:
        return
    path = Path(args.output) / "inference.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    gpu = [cost.gpu_memory for cost in costs if cost.gpu_memory is not None]
    run = {
        "device": " + ".join(sorted({device_name(device) for device in devices})),
        "processes": len(devices),
        "threads": args.threads if devices[0].type == "cpu" else None,
        "files": len(costs),
        "audio_seconds": round(audio_seconds, 3),
        "work_seconds_per_second": sum(cost.seconds for cost in costs) / audio_seconds,
        "wall_seconds_per_second": wall_seconds / audio_seconds,
        "peak_memory_bytes": max(cost.memory for cost in costs),
        "peak_gpu_bytes": max(gpu) if gpu else None,
        "torch": torch.__version__,
    }
    write_json(path, {**record, "runs": [*record["runs"], run]})


def evaluate_all(args: argparse.Namespace) -> int:
    """What evaluate.py does, on what was extracted."""
    import evaluate

    command = ["-scp", args.scp_dir, "--output", args.output, "-config", args.config_path, "-gpus", *args.gpus]
    command += ["-proc", str(args.proc)] if args.proc else []
    for override in args.override:
        command += ["--override", override]
    return evaluate.main([*command, *(["--debug"] if args.debug else [])])


if __name__ == "__main__":
    sys.exit(main())
