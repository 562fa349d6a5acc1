from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import torch

from utils.workers import run_jobs

CPU = torch.device("cpu")


def start(device: torch.device, offset: int):
    if offset < 0:
        raise ValueError(f"offset {offset} cannot be loaded")

    def work(job: int) -> tuple[int, int]:
        if job == 13:
            raise ValueError("thirteen is bad")
        if job == 14:
            raise ZeroDivisionError("a fault of ours")
        if job == 15:
            os._exit(7)
        if isinstance(job, Path):  # the first to have it dies; or dies after it
            first = not job.exists()
            job.touch()
            if first and job.name == "after":
                threading.Timer(0.2, os._exit, (9,)).start()
                return job.name, os.getpid()
            if first:
                os._exit(8)
            return job.name, os.getpid()
        time.sleep(0.01)
        return job + offset, os.getpid()

    return work


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 3])
def test_every_job_is_done_once(processes: int) -> None:
    done = list(run_jobs(list(range(8)), start, [CPU] * processes, 100))
    assert sorted(f.job for f in done) == list(range(8))
    assert all(f.result[0] == f.job + 100 and f.error is None for f in done)
    assert (os.getpid() in {f.result[1] for f in done}) == (processes == 1)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_that_fails_fails_alone(processes: int) -> None:
    done = {f.job: f for f in run_jobs([1, 13, 14, 2], start, [CPU] * processes, 0)}
    assert done[13].error == "thirteen is bad" and done[14].error == "ZeroDivisionError: a fault of ours"
    assert done[1].error is None and done[2].error is None


@pytest.mark.slow
def test_a_process_that_dies_is_reported_with_its_job_and_the_others_go_on() -> None:
    done = {f.job: f for f in run_jobs([15, 1, 2, 3], start, [CPU] * 2, 0)}
    assert "exit status 7" in done[15].error
    assert all(done[job].error is None for job in (1, 2, 3))


@pytest.mark.slow
def test_a_job_whose_process_died_is_tried_once_more(tmp_path) -> None:
    done = {f.job: f for f in run_jobs([tmp_path / "a", 1, 2], start, [CPU] * 2, 0)}
    assert done[tmp_path / "a"].error is None and len(done) == 3


@pytest.mark.slow
def test_when_every_process_dies_they_are_replaced(tmp_path) -> None:
    jobs = [tmp_path / "a", tmp_path / "b", 1, 2]
    assert [f.error for f in run_jobs(jobs, start, [CPU] * 2, 0)] == [None] * 4


@pytest.mark.slow
def test_a_process_that_dies_between_two_jobs_does_not_end_the_run(tmp_path) -> None:
    """It ended with a BrokenPipeError where the next job was sent."""
    found = []
    for finished in run_jobs([tmp_path / "after", 1, 2, 3, 4], start, [CPU] * 2, 0):
        found.append(finished)
        if finished.job == tmp_path / "after":
            time.sleep(1.0)  # it has told of its job, and dies before it gets the next one
    assert len(found) == 5 and all(f.error is None for f in found)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_start_that_fails_is_one_error(processes: int) -> None:
    with pytest.raises(ValueError, match="offset -1 cannot be loaded"):
        list(run_jobs([1, 2], start, [CPU] * processes, -1))


def test_no_jobs_start_nothing() -> None:
    assert list(run_jobs([], start, [CPU], -1)) == []
