"""What there is to do: the jobs of a list, and which of them are computed together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data import arrays, lengths
from data.scp import align, output_paths, read_list
from data.utterances import list_utterances
from models.interfaces import Item, Program, Role
from running.shard import WHOLE, Shard

Entries = tuple[dict[str, dict[str, str]], dict[str, str]]  # name -> role -> file or text; name -> problem
SHARE = 32  # a group is at most this part of all audio, so that several processes have enough groups to divide


@dataclass(frozen=True)
class Job:
    """One item of the lists.

    Attributes:
        name: in the lists.
        inputs: role -> file, or text.
        outputs: for each name under which results are kept, role -> file. Rows have no file of their own.
    """

    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, Mapping[str, str]]

    def files(self) -> list[str]:
        """All files that come of it."""
        return [path for paths in self.outputs.values() for path in paths.values()]


@dataclass(frozen=True)
class Group:
    """Jobs that are computed together.

    Attributes:
        jobs: all of them. What is computed together can change the last bits of a result, so they stay together also
            where some are done already.
        wanted: names of those whose results are missing.
    """

    jobs: tuple[Job, ...]
    wanted: frozenset[str]


def list_jobs(
    program: Program, where: str | os.PathLike, output: str | os.PathLike, *, given: Mapping[str, str], optional: bool
) -> tuple[list[Job], dict[str, str]]:
    """The jobs of a list, or of a folder that holds a list for each of a program's inputs.

    Args:
        program: its roles say which lists there are.
        where: the folder, or the list of the first input.
        output: the folder of results.
        given: role -> what stands for all items, a file or a text.
        optional: whether results that are optional are kept too.

    Returns:
        The jobs in the order of the list, and name -> why a line of it cannot be done.

    Raises:
        FileNotFoundError: there is no such folder or list.
        ValueError: lists that do not fit together; names that cannot be file names inside the output folder, or that
            would share one.
    """
    require_roles(program, given)
    entries, problems = read_entries(program, where, given)
    results = {role: result for role, result in program.results.items() if optional or not result.optional}
    names = {name: program.outputs(Item(name, inputs)) for name, inputs in entries.items()}
    flat = [name for group in names.values() for name in group]
    files = {}
    for role, result in results.items():
        if result.kind != "row":
            folder, _, suffix = result.file.rpartition("/")
            paths = output_paths(os.path.join(output, folder), flat, suffix)
            files[role] = {name: str(path) for name, path in paths.items()}
    jobs = [
        Job(
            name,
            inputs,
            {out: {role: paths[out] for role, paths in files.items()} for out in names[name]},
        )
        for name, inputs in entries.items()
    ]
    return jobs, problems


def read_entries(program: Program, where: str | os.PathLike, given: Mapping[str, str]) -> Entries:
    """name -> role -> file or text, and name -> problem; the arguments and errors are those of ``list_jobs``.

    A program that reads lists of another form brings ``entries(where)``, which gives the same.
    """
    own = getattr(program, "entries", None)
    found = own(where) if own else None
    if found is None:
        found = _read_folder(program, where, given) if os.path.isdir(where) else _read_list(program, where, given)
    entries, problems = found
    return {name: {**inputs, **given} for name, inputs in entries.items()}, problems


def _read_folder(program: Program, where: str | os.PathLike, given: Mapping[str, str]) -> Entries:
    asked = {role: spec for role, spec in program.inputs.items() if role not in given}
    aligned = align(
        {role: os.path.join(where, spec.file) for role, spec in asked.items()},
        optional=[role for role, spec in asked.items() if spec.optional],
        values=[role for role, spec in asked.items() if spec.kind == "text"],
    )
    return dict(aligned.items), aligned.problems


def _read_list(program: Program, where: str | os.PathLike, given: Mapping[str, str]) -> Entries:
    first, *others = (role for role in program.inputs if role not in given)
    if lacking := [role for role in others if not program.inputs[role].optional]:
        lists = ", ".join(spec.file for spec in program.inputs.values())
        raise ValueError(f"{where} is no folder with {lists}; or give --{' and --'.join(lacking)} beside it")
    kind = program.inputs[first].kind
    listed = list_utterances(where) if kind == "audio" else read_list(where, paths=kind != "text")
    return {name: {first: entry} for name, entry in listed.entries.items()}, listed.problems


def require_roles(program: Program, given: Mapping[str, str], *, all_of_them: bool = False) -> None:
    """Raise a ValueError if inputs are given that a program does not take, or, of all, one is missing."""
    flags = {role: f"--{role}" for role in program.inputs}
    takes = ", ".join(f"{flags[role]}{' (optional)' * spec.optional}" for role, spec in program.inputs.items())
    if unknown := [role for role in given if role not in flags]:
        raise ValueError(f"this recipe's program takes {takes}; not --{', --'.join(unknown)}")
    lacking = [flags[role] for role, spec in program.inputs.items() if role not in given and not spec.optional]
    if all_of_them and lacking:
        raise ValueError(f"this recipe's program takes {takes}; {' and '.join(lacking)} is missing")


def one_job(program: Program, given: Mapping[str, str], output: str | os.PathLike) -> Job:
    """The job whose inputs are given one by one, and whose one result is a file.

    Raises:
        ValueError: inputs that the program does not take, or that are missing.
    """
    require_roles(program, given, all_of_them=True)
    audible = next(role for role, result in program.results.items() if result.kind == "audio")
    name = os.fspath(next(iter(given.values())))
    return Job(name, dict(given), {name: {audible: os.fspath(output)}})


def require_no_input_is_output(jobs: Sequence[Job], inputs: Mapping[str, Role]) -> None:
    """Raise a ValueError if a result would be written over a file that is read, by whatever name or link."""
    outputs = {}
    for job in jobs:
        for path in job.files():
            if (found := _identity(path)) is not None:
                outputs[found] = path
    if not outputs:
        return
    clashes = []
    for job in jobs:
        for role, path in job.inputs.items():
            if inputs[role].kind != "text" and (result := outputs.get(_identity(path))):
                clashes.append(f"{result} is the {role} of {job.name}, {path}")
    if clashes:
        more = f" (and {len(clashes) - 1} more)" if len(clashes) > 1 else ""
        raise ValueError(f"a result would overwrite what it is made of: {clashes[0]}{more}; choose another output")


def first_input(job: Job, inputs: Mapping[str, Role]) -> str | None:
    """The file or text of the first input that a job has, in the order of the program's."""
    return next((job.inputs[role] for role in inputs if role in job.inputs), None)


def measure(
    jobs: Sequence[Job], inputs: Mapping[str, Role], *, known: Mapping[str, Sequence[int]]
) -> tuple[dict[str, float], dict[str, str], dict[str, Sequence[int]]]:
    """Seconds of the first input of every job, by the job's name; the reasons of those that cannot be read; and what to
    keep.

    Args:
        inputs: of the program; the first of them that a job has counts.
        known: file -> what an earlier call said to keep: files that have not changed since are not opened again.
    """
    seconds: dict[str, float] = {}
    broken: dict[str, str] = {}
    firsts = {job.name: next((spec for role, spec in inputs.items() if role in job.inputs), None) for job in jobs}
    paths = {job.name: first_input(job, inputs) for job in jobs}
    audible = [paths[name] for name, spec in firsts.items() if spec is not None and spec.kind == "audio"]
    found, unreadable = lengths.measure(audible, known=known)
    for job in jobs:
        path, spec = paths[job.name], firsts[job.name]
        if spec is None:
            broken[job.name] = f"none of {', '.join(spec.file for spec in inputs.values())} has it"
            continue
        if spec.kind == "audio":
            rate = round(spec.sample_rate)
            if path in found:
                seconds[job.name] = found[path].at(rate) / rate
            else:
                broken[job.name] = unreadable[path]
            continue
        try:
            seconds[job.name] = 0.0 if spec.kind in ("text", "file") else arrays.rows(path) / (spec.sample_rate or 1.0)
        except (ValueError, OSError) as error:
            broken[job.name] = str(error)
    return seconds, broken, found


def groups(
    jobs: Sequence[Job],
    seconds: Mapping[str, float],
    *,
    batch_seconds: float,
    is_done: Callable[[Job], bool],
    shard: Shard = WHOLE,
) -> list[Group]:
    """Jobs in groups of up to ``batch_seconds``, the longest first, so that no process is left with it at the end.

    They follow from the lists and the lengths of the files, not from the number of processes or shards, nor from what
    is done already.

    Args:
        jobs: those that can be read.
        seconds: of each one's first input.
        batch_seconds: a longer one is a group of its own.
        is_done: whether a job's results are there.
        shard: of n shards, the i-th has every n-th group.

    Returns:
        The groups of the shard in which something is wanted.

    Raises:
        ValueError: ``batch_seconds`` is not a number, or below 0.
    """
    if not isinstance(batch_seconds, int | float) or not batch_seconds >= 0:
        raise ValueError(f"batch_seconds must be a number of seconds, 0 or more, got {batch_seconds!r}")
    limit = min(batch_seconds, sum(seconds[job.name] for job in jobs) / SHARE)
    together: list[list[Job]] = []
    room = 0.0
    for job in sorted(jobs, key=lambda job: -seconds[job.name]):
        if not together or seconds[job.name] > room:
            together.append([])
            room = limit
        together[-1].append(job)
        room -= seconds[job.name]
    mine = [some for position, some in enumerate(together) if shard.has(position)]
    found = [Group(tuple(some), frozenset(job.name for job in some if not is_done(job))) for some in mine]
    return [group for group in found if group.wanted]


def _identity(path: str | os.PathLike) -> tuple[int, int] | None:
    """Device and inode of what a path leads to; None where there is nothing."""
    try:
        status = Path(path).stat() if isinstance(path, Path) else os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
