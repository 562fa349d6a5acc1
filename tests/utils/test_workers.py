from __future__ import annotations

import os
import time

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
@pytest.mark.parametrize("processes", [1, 2])
def test_a_start_that_fails_is_one_error(processes: int) -> None:
    with pytest.raises(ValueError, match="offset -1 cannot be loaded"):
        list(run_jobs([1, 2], start, [CPU] * processes, -1))


def test_no_jobs_start_nothing() -> None:
    assert list(run_jobs([], start, [CPU], -1)) == []
