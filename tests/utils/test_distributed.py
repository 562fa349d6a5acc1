from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist

from tests.toy import ROOT
from utils import distributed, launch
from utils.errors import STOPPED


@pytest.mark.parametrize(
    ("gpus", "devices"),
    [("cpu", ["cpu"]), (["cpu", "cpu"], ["cpu"] * 2), (["cpu"], ["cpu"])],
)
def test_devices(gpus: object, devices: list[str]) -> None:
    assert [str(d) for d in distributed.parse_devices(gpus)] == devices


def test_auto_is_all_cuda_devices_or_else_the_cpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert [str(d) for d in distributed.parse_devices("auto")] == ["cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(d) for d in distributed.parse_devices("auto")] == ["cuda:0", "cuda:1"]
    assert [str(d) for d in distributed.parse_devices([1, "cuda:0", "cuda", "1"])] == [
        "cuda:1",
        "cuda:0",
        "cuda:0",
        "cuda:1",
    ]
    for gpus in ([2], "cuda:5", 7):
        with pytest.raises(ValueError, match="this machine has 2"):
            distributed.parse_devices(gpus)


@pytest.mark.parametrize("gpus", ["gpu0", [True], [], [None], ["cpu", "tpu?"]])
def test_what_is_not_a_device(gpus: object) -> None:
    with pytest.raises(ValueError, match="gpus"):
        distributed.parse_devices(gpus)


def test_a_single_process_is_the_plain_case() -> None:
    assert distributed.world_size() == 1 and distributed.rank() == 0 and distributed.is_main()
    assert distributed.sum_over_processes(torch.ones(2)).tolist() == [1, 1]
    assert distributed.from_main("x") == "x"
    assert distributed.gather("x") == ["x"] and distributed.any_over_processes(True, False) == (True, False)
    distributed.barrier()


CPU = torch.device("cpu")


def add_ranks(device: torch.device, folder: str) -> int:
    total = distributed.sum_over_processes(torch.tensor([distributed.rank() + 1.0]))
    name = distributed.from_main(f"from {distributed.rank()}")
    open(os.path.join(folder, str(distributed.rank())), "w").write(f"{total.item()} {name}")
    distributed.leave()
    return 0


def fail_in_one(device: torch.device, folder: str) -> int:
    if distributed.rank() == 1:
        return 3
    dist.barrier()  # would wait for ever
    return 0


def stop_one_after_the_other(device: torch.device, folder: str) -> int:
    if distributed.rank() == 0:
        time.sleep(3)  # still saving
        open(os.path.join(folder, "saved"), "w").close()
    return STOPPED


def report_parent_and_wait(device: torch.device, folder: str) -> int:
    open(os.path.join(folder, f"pid{distributed.rank()}"), "w").write(str(os.getpid()))
    time.sleep(60)
    return 0


@pytest.mark.slow
def test_processes_see_each_other(tmp_path) -> None:
    assert launch.launch([torch.device("cpu")] * 3, add_ranks, str(tmp_path)) == 0
    assert [(tmp_path / str(r)).read_text() for r in range(3)] == ["6.0 from 0"] * 3


@pytest.mark.slow
def test_when_one_fails_the_others_do_not_hang(tmp_path) -> None:
    since = time.time()
    assert launch.launch([torch.device("cpu")] * 2, fail_in_one, str(tmp_path)) == 3
    assert time.time() - since < 120


@pytest.mark.slow
def test_who_was_asked_to_stop_may_still_be_saving_when_others_have_left(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(launch, "GRACE", 0.1)
    assert launch.launch([torch.device("cpu")] * 2, stop_one_after_the_other, str(tmp_path)) == STOPPED
    assert (tmp_path / "saved").exists()


@pytest.mark.slow
def test_processes_end_with_a_parent_that_was_killed(tmp_path) -> None:
    code = (
        "import torch; from tests.utils.test_distributed import *\n"
        f"if __name__ == '__main__': launch.launch([CPU] * 2, report_parent_and_wait, {str(tmp_path)!r})"
    )
    (tmp_path / "main.py").write_text(code)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    _until(lambda: len(list(tmp_path.glob("pid*"))) == 2 and all(p.read_text() for p in tmp_path.glob("pid*")))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    pids = [int(path.read_text()) for path in tmp_path.glob("pid*")]
    _until(lambda: not any(_alive(pid) for pid in pids))


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(condition, seconds: float = 90) -> None:
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "waited too long"
        time.sleep(0.1)


@pytest.mark.parametrize("device", ["meta", "mps", "xpu"])
def test_devices_of_other_kinds_are_refused(device: str) -> None:
    """They came as torch's own RuntimeError or AssertionError, when the first tensor was to go there."""
    with pytest.raises(ValueError, match=f"'{device}' is no device that is supported"):
        distributed.parse_devices([device])
