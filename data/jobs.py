"""What there is to do: the jobs of a list, and which of them are done together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data import audio
from data.scp import output_path, read_aligned

SHARE = 32  # a group is at most this part of all audio, so that several processes have enough groups to divide


@dataclass(frozen=True)
class Job:
    """One file to make something of.

    Attributes:
        name: in its list.
        mixture: what is heard.
        output: where the result is written.
        enrolment: of the talker to extract; None where nobody is extracted.
        tokens: where the predicted tokens are kept, if they are.
    """

    name: str
    mixture: Path
    output: Path
    enrolment: Path | None = None
    tokens: Path | None = None

    def done(self) -> bool:
        return self.output.exists() and (self.tokens is None or self.tokens.exists())


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


def list_jobs(folder: Path, output: Path, *, keep_tokens: bool) -> list[Job]:
    """The jobs of a folder that holds ``mix_clean.scp`` and ``aux_s1.scp``.

    Raises:
        FileNotFoundError: there is no such folder or list.
        ValueError: lists that do not match, or names that cannot be file names inside the output folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of lists: {folder}")
    lists = {"mixture": folder / "mix_clean.scp", "enrolment": folder / "aux_s1.scp"}
    jobs = [
        Job(
            name,
            paths["mixture"],
            output_path(output, name),
            paths["enrolment"],
            output_path(output / "tokens", name, ".npy") if keep_tokens else None,
        )
        for name, paths in read_aligned(lists)
    ]
    owners: dict[Path, str] = {}
    for job in jobs:
        if job.output in owners:
            raise ValueError(f"{owners[job.output]} and {job.name} would both be written to {job.output}")
        owners[job.output] = job.name
    return jobs


def measure(jobs: Sequence[Job]) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of every mixture, and the reasons of those that cannot be read."""
    seconds, broken = {}, {}
    for job in jobs:
        try:
            seconds[job.name] = audio.num_samples(job.mixture) / audio.SAMPLE_RATE
        except (ValueError, OSError) as error:
            broken[job.name] = str(error)
    return seconds, broken


def groups(
    jobs: Sequence[Job], seconds: Mapping[str, float], *, batch_seconds: float, overwrite: bool = False
) -> list[Group]:
    """Jobs in groups of up to ``batch_seconds``, the longest first, so that no process is left with it at the end.

    They follow from the lists alone, not from the number of processes, nor from what is done already.

    Args:
        jobs: those that can be read.
        seconds: of each one's mixture.
        batch_seconds: a longer mixture is a group of its own.
        overwrite: want also what is done.

    Returns:
        The groups in which something is wanted.

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
    found = [
        Group(tuple(some), frozenset(job.name for job in some if overwrite or not job.done())) for some in together
    ]
    return [group for group in found if group.wanted]
