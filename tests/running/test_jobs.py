"""Which jobs are done together."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.jobs import Job, groups


def jobs_of(folder: Path, count: int) -> list[Job]:
    names = [f"utt{i}" for i in range(count)]
    return [Job(name, folder / "m.wav", folder / f"{name}.wav") for name in names]


def names(some: list) -> list[list[str]]:
    return [[job.name for job in group.jobs] for group in some]


def test_short_files_are_together_and_long_ones_alone_the_longest_first(tmp_path) -> None:
    jobs = jobs_of(tmp_path, 200)
    seconds = {job.name: 5.0 + number % 3 for number, job in enumerate(jobs)} | {"utt7": 300.0}
    made = groups(jobs, seconds, batch_seconds=24.0)
    assert names(made)[0] == ["utt7"]
    assert sorted(name for group in names(made) for name in group) == sorted(seconds)
    totals = [sum(seconds[name] for name in group) for group in names(made)[1:]]
    assert max(totals) <= 24.0 and min(totals[:-1]) > 24.0 - 7.0
    longest = [max(seconds[name] for name in group) for group in names(made)]
    assert longest == sorted(longest, reverse=True)


def test_what_is_done_changes_no_group(tmp_path) -> None:
    """Results are the same whether a run was interrupted or not, to the last bit."""
    jobs = jobs_of(tmp_path, 100)
    seconds = {job.name: 1.0 for job in jobs}
    before = groups(jobs, seconds, batch_seconds=3.0)
    for job in before[0].jobs + before[1].jobs[:1]:
        job.output.write_bytes(b"done")
    after = groups(jobs, seconds, batch_seconds=3.0)
    assert names(after) == names(before)[1:]
    assert after[0].wanted == {job.name for job in before[1].jobs[1:]}
    assert groups(jobs, seconds, batch_seconds=3.0, overwrite=True) == before


def test_tokens_that_are_missing_are_wanted(tmp_path) -> None:
    job = Job("a", tmp_path / "m", tmp_path / "a.wav", tokens=tmp_path / "a.npy")
    job.output.write_bytes(b"done")
    assert groups([job], {"a": 1.0}, batch_seconds=0.0)[0].wanted == {"a"}
    job.tokens.write_bytes(b"done")
    assert not groups([job], {"a": 1.0}, batch_seconds=0.0)


@pytest.mark.parametrize("batch_seconds", [0.0, 1000.0])
def test_a_few_files_are_not_put_together_or_processes_would_wait(tmp_path, batch_seconds: float) -> None:
    jobs = jobs_of(tmp_path, 10)
    made = groups(jobs, {job.name: 3.0 for job in jobs}, batch_seconds=batch_seconds)
    assert names(made) == [[job.name] for job in jobs]
    assert groups([], {}, batch_seconds=batch_seconds) == []
