"""Programs over lists: what is missing is done, on all devices, with a record; what fails is told."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data.writing import require_writable_form
from models.interfaces import RECORD, TOKENS_RECORD, Program
from models.load import keys_of, load_program
from running.jobs import Group, Job, first_input, groups, list_jobs, measure, one_job, require_no_input_is_output
from running.record import RunRecord, read_record
from running.shard import WHOLE, Shard
from running.work import Outcome, Setup, settle, start, worker
from utils.distributed import process_devices
from utils.errors import first_few
from utils.files import file_digest, require_writable_folder, text_digest, write_text
from utils.machine import device_name
from utils.precision import AUTO, resolve_precision
from utils.recipe import Recipe
from utils.workers import run_jobs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How a program is run.

    Attributes:
        gpus, processes: see ``utils.distributed.process_devices``.
        overwrite: make again what is already there.
        optional: keep results that are optional too.
        shard: the part of the list that this run does.
        given: role -> what stands for all items, a file or a text.
    """

    gpus: Sequence[str] = ("auto",)
    processes: int | None = None
    overwrite: bool = False
    optional: bool = False
    shard: Shard = WHOLE
    given: Mapping[str, str] = field(default_factory=dict)


def run_list(setup: Setup, where: str | os.PathLike, output: Path, options: Options) -> int:
    """Do what is missing of a list, or of a folder of lists; returns the exit status: 1 if a file failed.

    Args:
        where, output: as for ``running.jobs.list_jobs``.

    Raises:
        ValueError, OSError: what is wrong with the lists, the recipe, the checkpoint or the output folder.
    """
    if not os.path.exists(where):
        raise FileNotFoundError(f"no such {'folder of lists' if setup.job == 'extract' else 'list'}: {where}")
    require_writable_folder(output)
    recipe = setup.recipe()
    program = load_program(recipe, setup.job, setup.checkpoint)
    jobs, problems = list_jobs(program, where, output, given=options.given, optional=options.optional)
    require_no_input_is_output(jobs, program.inputs)
    check_records(program, jobs)
    record = RunRecord(
        output / program.record,
        made_by(program),
        settings={
            **settings_of(recipe, setup.job, process_devices(options.gpus, 1, jobs=1)[0]),
            **settings_of_given(program, options.given),
        },
        notes=notes(setup, recipe, program),
        shard=options.shard,
        is_shared=program.shares_folder,
    )
    with record.held():
        record.begin(jobs, overwrite=options.overwrite)
        status = _run(setup, program, jobs, problems, output, options, record)
        write_rows(program, jobs, output, record)
    return status


def run_one(setup: Setup, output: Path, options: Options) -> int:
    """Do one item, whose inputs are given one by one, into one file; returns the exit status.

    Raises:
        ValueError, OSError: as ``run_list``.
    """
    require_writable_form(output)
    require_writable_folder(output.parent)
    program = load_program(setup.recipe(), setup.job, setup.checkpoint)
    jobs = [one_job(program, options.given, output)]
    require_no_input_is_output(jobs, program.inputs)
    check_records(program, jobs)
    return _run(setup, program, jobs, {}, output, options, None)


def check_records(program: Program, jobs: Sequence[Job]) -> None:
    """Let a program see the records of the folders that its tokens and arrays come from.

    Raises:
        ValueError: it refuses what such a record tells of; the record is named.
    """
    roles = [role for role, spec in program.inputs.items() if spec.kind in ("tokens", "array")]
    for folder in {Path(job.inputs[role]).parent for job in jobs for role in roles if role in job.inputs}:
        # A folder of results keeps optional tokens in one of their own below.
        above = [folder.parent / RECORD] if folder.name == "tokens" else []
        for path in (folder / TOKENS_RECORD, *above):
            if path.is_file():
                try:
                    program.check_record(read_record(path))
                except ValueError as error:
                    raise ValueError(f"{error} (so says {path})") from error


def made_by(program: Program) -> dict[str, Any]:
    """What results follow from, beside their inputs: the digests of the weights, and the choice of codebooks."""
    facts = program.facts()
    return {**program.digests(), **{key: facts[key] for key in ("codebooks",) if key in facts}}


def settings_of(recipe: Recipe, job: str, device: torch.device) -> dict[str, str]:
    """The keys of the recipe that a job follows from, as text, with what a precision of ``auto`` is on a device.

    Paths, and of other files too (``codec_config``), are left out: they may change without a change of what lies there,
    which the digests tell of.
    """
    blocks: dict[str, str] = {}
    for line in re.sub(r"\s+#.*", "", recipe.text(*keys_of(recipe, job))).splitlines():
        if line and not line[0].isspace() and line[0] not in "-#" and ":" in line:
            key, _, value = line.partition(":")
            blocks[key] = value.strip()
        elif blocks:
            blocks[key] += "\n" + line
    for key, value in blocks.items():
        if key.endswith("precision") and value == AUTO:
            blocks[key] = f"{AUTO}: {resolve_precision(AUTO, device)}"
    return {key: value for key, value in blocks.items() if not key.endswith(("_path", "_config"))}


def settings_of_given(program: Program, given: Mapping[str, str]) -> dict[str, str]:
    """What was given for all items, as text: files by their content, since results follow from that."""
    return {
        f"--{role}": value if program.inputs[role].kind == "text" else file_digest(value)
        for role, value in given.items()
    }


def notes(setup: Setup, recipe: Recipe, program: Program) -> dict[str, Any]:
    """What is kept of a run beside what it is compared by."""
    found = {"job": setup.job, **program.facts(), "recipe": recipe.text(*keys_of(recipe, setup.job))}
    if setup.checkpoint is not None:
        found["checkpoint"] = str(setup.checkpoint)
        if os.path.isfile(setup.checkpoint):
            found["sha256"] = file_digest(setup.checkpoint)
    return found


def write_rows(program: Program, jobs: Sequence[Job], output: Path, record: RunRecord) -> None:
    """The file of rows, in the order of the list, of a program that has such results; or the rows in the record."""
    for role, result in program.results.items():
        if result.kind != "row":
            continue
        rows = record.rows()
        if result.file == program.record:
            in_order = {job.name: rows[job.name] for job in jobs if job.name in rows}
            record.keep(role, in_order | rows)  # an earlier run may have done another list
        else:
            lines = [json.dumps({"name": job.name, **rows[job.name]}) for job in jobs if job.name in rows]
            write_text(output / result.file, "".join(line + "\n" for line in lines))


def _run(
    setup: Setup,
    program: Program,
    jobs: Sequence[Job],
    problems: Mapping[str, str],
    output: Path,
    options: Options,
    record: RunRecord | None,
) -> int:
    done_before = {job.name for job in jobs if record and not options.overwrite and record.is_done(job)}
    durations, broken, lengths = measure(jobs, program.inputs, known=record.lengths() if record else {})
    todo = groups(
        [job for job in jobs if job.name in durations],
        durations,
        batch_seconds=program.batch_seconds,
        is_done=lambda job: job.name in done_before,
        shard=options.shard,
    )
    if record and options.shard.count > 1 and (others := record.divide(text_digest(json.dumps(durations)))):
        log.warning(
            "shard %s was a part of another list, or its files had other lengths then: when all shards are done, the "
            "same command without --shard does what none of them did", ", ".join(others),
        )  # fmt: skip
    wanted = {name for group in todo for name in group.wanted}
    bad = {name: broken.get(name) or problems[name] for name in [*broken, *problems] if name not in done_before}
    failed = {name: reason for place, (name, reason) in enumerate(bad.items()) if options.shard.has(place)}
    total = len(jobs) + len(problems)
    whose = "" if options.shard.count == 1 else f" of shard {options.shard}"
    if done_before and options.shard.count == 1:
        log.info("%d of %d files are there already", len(done_before), total)
    devices = process_devices(options.gpus, options.processes, jobs=len(todo))
    by_name = {job.name: job for job in jobs}
    seconds, since, outcomes = sum(durations[name] for name in wanted), time.perf_counter(), []
    form = "{desc}: {percentage:3.0f}% |{bar}| {n:.0f} of {total:.0f} s of audio [{elapsed}, {remaining} left]"
    with tqdm(total=seconds, desc=f"{setup.job}, {len(devices)} processes", bar_format=form) as bar:
        for finished in run_jobs(todo, *_starting(setup, program, devices)):
            names = finished.job.wanted
            bar.update(min(sum(map(durations.get, names)), seconds - bar.n))  # sums of fractions may pass the total
            outcome = finished.result or Outcome(failed=dict.fromkeys(names, finished.error))
            failed |= outcome.failed
            outcomes += [outcome] if finished.result else []
            for name in sorted(names - outcome.failed.keys()):
                if record:
                    job = by_name[name]
                    file = first_input(job, program.inputs)
                    record.add(job, file=file, length=lengths.get(file), row=outcome.rows.get(name))
                elif name in outcome.rows:
                    log.info("%s", "; ".join(f"{key} {_shown(value)}" for key, value in outcome.rows[name].items()))
    made = wanted - failed.keys()
    if made:
        took, audio_seconds = time.perf_counter() - since, sum(durations[name] for name in made)
        log.info("%d files%s, %.1f s of audio in %.1f s, in %s", len(made), whose, audio_seconds, took, output)
        if record:
            threads = setup.threads if devices[0].type == "cpu" else None
            cost = speed(devices, outcomes, files=len(made), audio_seconds=audio_seconds, wall_seconds=took)
            shard = {} if options.shard.count == 1 else {"shard": str(options.shard)}
            record.add_run({**cost, "threads": threads, **shard})
    if failed and record is None:  # one item, and its inputs are named in the reason
        raise ValueError(next(iter(failed.values())))
    for name, reason in failed.items():
        log.error("failed: %s: %s", name, reason)
    if failed:
        log.error("%d of %d files failed", len(failed), total)
    return 1 if failed else 0


def _shown(value: Any) -> str:
    """A value of a row, of which not too many are told."""
    return first_few(value, shown=8) if isinstance(value, list) else str(value)


def _starting(setup: Setup, program: Program, devices: Sequence[torch.device]) -> tuple:
    """What makes the worker of a process, where, and from what. A single process has its program already."""
    if len(devices) > 1:
        return start, devices, setup
    return functools.partial(_with_program, program, setup), devices


def _with_program(program: Program, setup: Setup, device: torch.device) -> Callable[[Group], Outcome]:
    settle(device, setup.threads)
    return worker(device, program.to(device))


def speed(
    devices: list[torch.device], outcomes: list[Outcome], *, files: int, audio_seconds: float, wall_seconds: float
) -> dict[str, object]:
    """What a run cost: the work of its groups, and the wall clock, with loading."""
    gpu = [outcome.gpu_memory for outcome in outcomes if outcome.gpu_memory is not None]
    work = sum(outcome.seconds for outcome in outcomes)
    return {
        "device": " + ".join(sorted({device_name(device) for device in devices})),
        "processes": len(devices),
        "files": files,
        "audio_seconds": round(audio_seconds, 3),
        "work_seconds_per_second": work / audio_seconds if audio_seconds else None,  # of texts
        "wall_seconds_per_second": wall_seconds / audio_seconds if audio_seconds else None,
        "peak_memory_bytes": max(outcome.memory for outcome in outcomes),
        "peak_gpu_bytes": max(gpu) if gpu else None,
        "torch": torch.__version__,
    }
