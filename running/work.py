"""What a process does with a group of jobs: read the inputs, run the program, write what it gives."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from data import arrays, audio
from data.writing import write_parts
from models.interfaces import Item, Program, Recording, Role
from models.load import load_program
from running.jobs import Group, Job
from utils.ahead import ahead
from utils.distributed import select
from utils.errors import USER_ERRORS, describe
from utils.files import write_array
from utils.halves import in_halves
from utils.machine import peak_gpu_memory, peak_memory
from utils.recipe import Recipe


@dataclass(frozen=True)
class Setup:
    """What a process needs to know to make its program.

    Attributes:
        job: what is done, one of ``models.load.JOBS``.
        config, overrides: the recipe.
        checkpoint: None where the recipe names all weights.
        threads: of a process on the CPU.
    """

    job: str
    config: str
    checkpoint: str | None = None
    overrides: tuple[str, ...] = ()
    threads: int = 1

    def recipe(self) -> Recipe:
        return Recipe(self.config, overrides=self.overrides)


@dataclass
class Outcome:
    """What came of a group.

    Attributes:
        seconds: that the work took.
        memory, gpu_memory: the most, in bytes, that its process has used so far.
        failed: name -> why.
        rows: name -> the row that is its result.
    """

    seconds: float = 0.0
    memory: int = 0
    gpu_memory: int | None = None
    failed: dict[str, str] = field(default_factory=dict)
    rows: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def start(device: torch.device, setup: Setup) -> Callable[[Group], Outcome]:
    """Load the program in this process; returns what does a group with it, for ``utils.workers.run_jobs``."""
    settle(device, setup.threads)
    return worker(device, load_program(setup.recipe(), setup.job, setup.checkpoint, device=device))


def settle(device: torch.device, threads: int) -> None:
    """Make this process one for ``device``."""
    select(device)
    if device.type == "cpu":
        # The number of threads changes the last bits of sums, so it must not follow from the number of processes.
        torch.set_num_threads(threads)


def worker(device: torch.device, program: Program) -> Callable[[Group], Outcome]:
    """What does a group with a program, and tells what it cost."""

    def do(group: Group) -> Outcome:
        since = time.perf_counter()
        outcome = do_group(program, group)
        outcome.seconds = time.perf_counter() - since
        outcome.memory, outcome.gpu_memory = peak_memory(), peak_gpu_memory(device)
        return outcome

    return do


def do_group(program: Program, group: Group) -> Outcome:
    """Write what is wanted of a group.

    What cannot be read fails alone; if the program fails, each is done alone; and what does not fit into the memory of
    a GPU is done in halves.
    """
    outcome = Outcome()

    def do(part: slice) -> Outcome:
        return _do_together(program, dataclasses.replace(group, jobs=group.jobs[part]))

    for made in in_halves(do, len(group.jobs)):
        outcome.failed |= made.failed
        outcome.rows |= made.rows
    return outcome


def _do_together(program: Program, group: Group) -> Outcome:
    """Raises a torch.OutOfMemoryError if the jobs, more than one, do not fit into the memory."""
    outcome, jobs, items = Outcome(), [], []
    for job in group.jobs:
        try:
            items.append(read_item(program, job))
            jobs.append(job)
        except USER_ERRORS as error:
            if job.name in group.wanted:
                outcome.failed[job.name] = describe(error)
    if not any(job.name in group.wanted for job in jobs):
        return outcome
    try:
        outcome.rows = write_results(program, jobs, items, group.wanted)
    except torch.OutOfMemoryError as error:
        if len(group.jobs) > 1:
            raise
        said = f"the GPU's memory does not hold it ({describe(error).split('. ')[0]}): batch_seconds or piece_seconds, "
        said += "where the recipe has them, take less if they are lower"
        outcome.failed[jobs[0].name] = _naming_its_file(MemoryError(said), jobs[0])
    except USER_ERRORS as error:
        if len(jobs) == 1:
            outcome.failed[jobs[0].name] = _naming_its_file(error, jobs[0])
            return outcome
        for job in jobs:
            if job.name in group.wanted:
                alone = do_group(program, dataclasses.replace(group, jobs=(job,)))
                outcome.failed |= alone.failed
                outcome.rows |= alone.rows
    return outcome


def _naming_its_file(error: BaseException, job: Job) -> str:
    """What a program says of an item, of whose files it knows nothing."""
    said, files = describe(error), list(job.inputs.values())
    if any(file in said for file in files):
        return said
    at = {file: place for role, file in job.inputs.items() if (place := said.find(role)) >= 0}
    return f"{min(at, key=at.get, default=files[0])}: {said}"  # of the input that is spoken of first


def read_item(program: Program, job: Job) -> Item:
    """The inputs of a job; signals are read when they are needed.

    Raises:
        ValueError, OSError: an input that cannot be read.
    """
    return Item(job.name, {role: _read(program.inputs[role], path) for role, path in job.inputs.items()})


def _read(role: Role, path: str) -> Recording | np.ndarray | str:
    if role.kind in ("text", "file"):
        return path
    if role.kind == "tokens":
        return arrays.read_tokens(path)
    if role.kind == "array":
        return arrays.read(path)
    settings = {"sample_rate": round(role.sample_rate), "channels": role.channels}
    samples = audio.num_samples(path, sample_rate=settings["sample_rate"], nearest=role.nearest)
    if not samples:
        raise ValueError(f"{path} holds no samples")

    def read(start: int, length: int) -> np.ndarray:
        return audio.read(path, start=start, length=max(0, min(length, samples - start)), **settings)

    return Recording(read, samples, path)


def write_results(
    program: Program, jobs: Sequence[Job], items: Sequence[Item], wanted: frozenset[str]
) -> dict[str, Mapping[str, Any]]:
    """Run the program and write the files of the jobs that are wanted; returns the rows of those that have one.

    While one part of a signal is written, the next is computed.
    """
    made = iter(program(items))
    rows: dict[str, Mapping[str, Any]] = {}
    sounds: list[tuple[str, Role, Any]] = []
    for job in jobs:
        for paths in job.outputs.values():
            results = next(made)
            if job.name not in wanted:
                continue
            for role, value in results.items():
                spec = program.results[role]
                if spec.kind == "row":
                    rows[job.name] = value
                elif role not in paths:
                    continue
                elif spec.kind == "audio":
                    sounds.append((paths[role], spec, value))
                else:
                    write_array(paths[role], _smallest(np.asarray(value), spec))
    parts = ahead((path, spec, part) for path, spec, value in sounds for part in _parts(value))
    for (path, spec), its_parts in itertools.groupby(parts, key=lambda part: part[:2]):
        write_parts(path, (part for _, _, part in its_parts), sample_rate=round(spec.sample_rate))
    return rows


def _parts(value: Any) -> Iterator[np.ndarray]:
    """A signal, or its parts, as arrays on the CPU."""
    for part in [value] if isinstance(value, torch.Tensor | np.ndarray) else value:
        yield part.detach().float().cpu().numpy() if isinstance(part, torch.Tensor) else part


def _smallest(array: np.ndarray, role: Role) -> np.ndarray:
    """Tokens in the smaller of the integers that hold them."""
    if role.kind != "tokens":
        return array
    return array.astype("int16" if array.max(initial=0) < 2**15 else "int32")
