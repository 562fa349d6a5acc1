"""Run any system of this project: extract a folder of lists, on any number of devices and processes, or one file; or
turn any list of files into tokens.

A folder holds mix_clean.scp and aux_s1.scp (`name path` lines, matched by name). What is finished stays finished: the
same command does what is missing. The results do not depend on the number of processes.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from data.jobs import Group, Job
    from models.interfaces import TargetExtractor, Tokenizer
    from utils.run_record import RunRecord

log = logging.getLogger("inference")


@dataclass(frozen=True)
class Outcome:
    """What a group took, the most memory, in bytes, that its process has used so far, and why jobs of it failed."""

    seconds: float
    memory: int
    gpu_memory: int | None
    failed: dict[str, str]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python inference.py -scp test -config config/tselm_l.yaml -ckpt best.pth --output out "
        "-gpus cuda:0 cuda:1 -proc 8\n  python inference.py -config config/tselm_l.yaml -ckpt best.pth "
        "--mixture a.wav --enrolment b.wav --output c.wav\n  python inference.py --tokenize train.json "
        "-config config/unit_hifigan.yaml --output tokens -proc 2",
    )
    add = parser.add_argument
    add("-scp", "--scp_dir", metavar="DIR", help="folder with mix_clean.scp and aux_s1.scp")
    add("--mixture", metavar="FILE", help="one mixture, instead of a folder")
    add("--enrolment", metavar="FILE", help="speech of the talker to extract from it")
    add(
        "--tokenize",
        metavar="LIST",
        help="instead of extracting, turn the files of a list (`name path` lines, or a speaker index) into tokens, "
        "OUTPUT/NAME.npy [N, K], with the recipe's tokenizer",
    )
    add("-config", "--config_path", required=True, metavar="FILE", help="recipe, a YAML file of config/")
    add("-ckpt", "--ckpt_path", metavar="FILE", help="trained or released checkpoint")
    add("--output", required=True, metavar="PATH", help="folder for what is made; with --mixture, the file")
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
    add("--overwrite", action="store_true", help="make again what is already there")
    add("--save-tokens", action="store_true", help="keep the predicted tokens too, as OUTPUT/tokens/NAME.npy [N, K]")
    add("--report", action="store_true", help="evaluate when all is done (evaluate.py); includes --save-tokens")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; repeatable")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    if [args.scp_dir, args.mixture, args.tokenize].count(None) != 2 or (args.mixture is None) != (
        args.enrolment is None
    ):
        parser.error("give either -scp, or both --mixture and --enrolment, or --tokenize")
    if (args.ckpt_path is None) != (args.tokenize is not None):
        parser.error("extraction needs -ckpt, and --tokenize reads none: the recipe names the tokenizer's files")
    if args.proc is not None and args.proc < 1 or args.threads < 1:
        parser.error("-proc and --threads must be above 0")
    if not args.scp_dir and (args.report or args.save_tokens):
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
        outcome.status = tokenize_all(args) if args.tokenize else extract_all(args)
    if args.report and outcome.status in (0, 1):
        return evaluate_all(args) or outcome.status
    return outcome.status


def extract_all(args: argparse.Namespace) -> int:
    """Extract what is missing; returns the exit status: 1 if a file failed."""
    from data.jobs import Job, list_jobs
    from utils.recipe import Recipe
    from utils.run_record import RunRecord, file_digest

    output = Path(args.output)
    recipe = Recipe(args.config_path, overrides=args.override)
    if not Path(args.ckpt_path).is_file():
        raise FileNotFoundError(f"no such checkpoint: {args.ckpt_path}")
    if args.mixture:
        jobs = [Job(args.mixture, Path(args.mixture), output, Path(args.enrolment))]
        return run_all(args, jobs, start_extracting, verb="extract", batch_seconds=0.0)
    jobs = list_jobs(Path(args.scp_dir), output, keep_tokens=args.save_tokens or args.report)
    is_used = not args.overwrite and any(job.output.exists() for job in jobs)
    made_with = {
        "checkpoint": str(args.ckpt_path),
        "sha256": file_digest(args.ckpt_path),
        "model": recipe.text("model"),
    }
    compared = {"sha256": "checkpoint", "model": "recipe"}
    record = RunRecord(output / "inference.json", made_with, compared=compared, is_used=is_used)
    limit = recipe.get("batch_seconds", 0.0)
    return run_all(args, jobs, start_extracting, verb="extract", batch_seconds=limit, record=record)


def tokenize_all(args: argparse.Namespace) -> int:
    """Turn what is missing into tokens; returns the exit status: 1 if a file failed."""
    from data.jobs import Job
    from data.scp import output_path
    from data.utterances import read_utterances
    from utils.recipe import Recipe
    from utils.run_record import RunRecord

    output = Path(args.output)
    utterances = read_utterances(args.tokenize)
    jobs = [Job(name, path, output_path(output, name, ".npy")) for name, path in utterances.items()]
    recipe = Recipe(args.config_path, overrides=args.override)
    tokenizer = recipe.build("tokenizer")["tokenizer"]
    made_with = {
        "tokenizer": tokenizer.digest(),
        "sample_rate": tokenizer.sample_rate,
        "hop_length": tokenizer.hop_length,
        "codebooks": list(tokenizer.codebook_names),
        "vocab_size": tokenizer.vocab_size,
        "recipe": recipe.text("tokenizer"),
    }
    is_used = not args.overwrite and any(job.output.exists() for job in jobs)
    compared = {"tokenizer": "tokenizer", "codebooks": "choice of codebooks"}
    record = RunRecord(output / "tokens.json", made_with, compared=compared, is_used=is_used)
    limit = recipe.get("batch_seconds", 24.0)
    return run_all(args, jobs, start_tokenizing, verb="tokenize", batch_seconds=limit, record=record)


def run_all(
    args: argparse.Namespace,
    jobs: Sequence[Job],
    start: Callable[..., Callable[[Group], Outcome]],
    *,
    verb: str,
    batch_seconds: float,
    record: RunRecord | None = None,
) -> int:
    """Do the jobs whose outputs are missing, on all devices; returns the exit status: 1 if one failed."""
    from tqdm import tqdm

    from data.jobs import groups, measure
    from utils.distributed import process_devices
    from utils.workers import run_jobs

    durations, broken = measure(jobs)
    readable = [job for job in jobs if job.name in durations]
    again = args.overwrite or bool(args.mixture)
    todo = groups(readable, durations, batch_seconds=batch_seconds, overwrite=again)
    wanted = {name for group in todo for name in group.wanted}
    failed = {job.name: broken[job.name] for job in jobs if job.name in broken and (again or not job.done())}
    if done := len(jobs) - len(wanted) - len(failed):
        log.info("%d of %d files are there already", done, len(jobs))
    devices = process_devices(args.gpus, args.proc, jobs=len(todo))
    seconds, since, outcomes = sum(durations[name] for name in wanted), time.perf_counter(), []
    settings = (args.config_path, args.ckpt_path, tuple(args.override), args.threads)
    form = "{desc}: {percentage:3.0f}% |{bar}| {n:.0f} of {total:.0f} s of audio [{elapsed}, {remaining} left]"
    with tqdm(total=seconds, desc=f"{verb}, {len(devices)} processes", bar_format=form) as bar:
        for finished in run_jobs(todo, start, devices, *settings):
            names = finished.job.wanted
            bar.update(min(sum(map(durations.get, names)), seconds - bar.n))  # sums of fractions may pass the total
            if finished.error:
                failed |= dict.fromkeys(names, finished.error)
            else:
                failed |= finished.result.failed
                outcomes.append(finished.result)
    made = wanted - failed.keys()
    if made:
        took, audio_seconds = time.perf_counter() - since, sum(durations[name] for name in made)
        log.info("%d files, %.1f s of audio in %.1f s, in %s", len(made), audio_seconds, took, args.output)
        if record:
            threads = args.threads if devices[0].type == "cpu" else None
            cost = speed(devices, outcomes, files=len(made), audio_seconds=audio_seconds, wall_seconds=took)
            record.add_run({**cost, "threads": threads})
    for name, reason in failed.items():
        log.error("failed: %s: %s", name, reason)
    if failed:
        log.error("%d of %d files failed", len(failed), len(jobs))
    return 1 if failed else 0


def start_extracting(device, config_path: str, ckpt_path: str, overrides: tuple[str, ...], threads: int):
    """Load the system in this process; returns the function that does a group."""
    from models import load_extractor

    settle(device, threads)
    extractor = load_extractor(config_path, ckpt_path, device=device, overrides=overrides)
    return measured(device, lambda group: extract_group(extractor, group))


def start_tokenizing(device, config_path: str, _: None, overrides: tuple[str, ...], threads: int):
    """Load the tokenizer in this process; returns the function that does a group."""
    from utils.recipe import Recipe
    from utils.seed import make_reproducible

    settle(device, threads)
    tokenizer = Recipe(config_path, overrides=overrides).build("tokenizer")["tokenizer"].to(device)
    make_reproducible()  # now that all libraries are imported
    return measured(device, lambda group: tokenize_group(tokenizer, group, device))


def settle(device, threads: int) -> None:
    """Make this process one for ``device``."""
    import torch

    from utils.distributed import select

    select(device)
    if device.type == "cpu":
        # The number of threads changes the last bits of sums, so it must not follow from the number of processes.
        torch.set_num_threads(threads)


def measured(device, work: Callable[[Group], dict[str, str]]) -> Callable[[Group], Outcome]:
    """``work``, which returns the reasons of what failed, with what it cost."""
    from utils.machine import peak_gpu_memory, peak_memory

    def do(group: Group) -> Outcome:
        since = time.perf_counter()
        failed = work(group)
        return Outcome(time.perf_counter() - since, peak_memory(), peak_gpu_memory(device), failed)

    return do


def extract_group(extractor: TargetExtractor, group: Group) -> dict[str, str]:
    """Write what is wanted of a group; returns the reasons of those that failed.

    While one part of the speech is written, the next is decoded. If one file fails, each is done alone.
    """
    from data import audio
    from models.interfaces import Source, TokenExtractor
    from utils.ahead import ahead
    from utils.errors import USER_ERRORS, describe
    from utils.files import write_array

    def source(job: Job) -> Source:
        read = functools.partial(read_part, job.mixture)
        return Source(read, audio.num_samples(job.mixture), audio.read(job.enrolment))

    try:
        if isinstance(extractor, TokenExtractor):  # in parts, so that the length of a file does not matter
            made = extractor.stream([source(job) for job in group.jobs])
        else:
            sources = [(audio.read(job.mixture), audio.read(job.enrolment)) for job in group.jobs]
            made = [(None, [extractor.extract(*source)]) for source in sources]
        wanted = [(job, *some) for job, some in zip(group.jobs, made, strict=True) if job.name in group.wanted]
        for job, tokens, _ in wanted:
            if job.tokens is not None:
                write_array(job.tokens, tokens.numpy().astype("int32"))
        parts = ahead((job, part.numpy()) for job, _, parts in wanted for part in parts)
        for job, its_parts in itertools.groupby(parts, key=lambda pair: pair[0]):
            audio.write_parts(job.output, (part for _, part in its_parts), sample_rate=extractor.sample_rate)
        return {}
    except USER_ERRORS as error:
        if len(group.jobs) == 1:
            return {group.jobs[0].name: describe(error)}
    return one_by_one(group, functools.partial(extract_group, extractor))


def tokenize_group(tokenizer: Tokenizer, group: Group, device) -> dict[str, str]:
    """Write the tokens of what is wanted of a group; returns the reasons of those that failed.

    If one file fails, each is done alone.
    """
    from data import audio
    from models.ssl_tokenizer import encode_files
    from utils.errors import USER_ERRORS, describe
    from utils.files import write_array

    try:
        sources = [(functools.partial(read_part, job.mixture), audio.num_samples(job.mixture)) for job in group.jobs]
        made = encode_files(tokenizer, sources, device=device)
        dtype = "int16" if tokenizer.vocab_size <= 2**15 else "int32"
        for job, tokens in zip(group.jobs, made, strict=True):
            if job.name in group.wanted:
                write_array(job.output, tokens.numpy().astype(dtype))
        return {}
    except USER_ERRORS as error:
        if len(group.jobs) == 1:
            return {group.jobs[0].name: describe(error)}
    return one_by_one(group, functools.partial(tokenize_group, tokenizer, device=device))


def one_by_one(group: Group, work: Callable[[Group], dict[str, str]]) -> dict[str, str]:
    """The jobs of a group as groups of their own, after one of them failed."""
    failed = {}
    for job in group.jobs:
        if job.name in group.wanted:
            failed |= work(dataclasses.replace(group, jobs=(job,)))
    return failed


def read_part(path: Path, start: int, length: int) -> np.ndarray:
    from data import audio

    return audio.read(path, start=start, length=length)


def speed(
    devices: list, outcomes: list[Outcome], *, files: int, audio_seconds: float, wall_seconds: float
) -> dict[str, object]:
    """What a run cost: the work of its groups, and the wall clock, with loading."""
    import torch

    from utils.machine import device_name

    gpu = [outcome.gpu_memory for outcome in outcomes if outcome.gpu_memory is not None]
    return {
        "device": " + ".join(sorted({device_name(device) for device in devices})),
        "processes": len(devices),
        "files": files,
        "audio_seconds": round(audio_seconds, 3),
        "work_seconds_per_second": sum(outcome.seconds for outcome in outcomes) / audio_seconds,
        "wall_seconds_per_second": wall_seconds / audio_seconds,
        "peak_memory_bytes": max(outcome.memory for outcome in outcomes),
        "peak_gpu_bytes": max(gpu) if gpu else None,
        "torch": torch.__version__,
    }


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
