"""Programs that are run one after the other: what they are told, and that none outlives who runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.processes import is_alive, wait_for
from tests.toy import ROOT
from utils.commands import run

# Says that it is ready; then notes each signal that it gets, and stops at the second, or at SIGTERM.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
got = []
def note(number, frame):
    got.append(signal.Signals(number).name)
    Path(sys.argv[1], "got").write_text(" ".join(got))
    if number == signal.SIGTERM or len(got) == 2:
        sys.exit(7)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, note)
Path(sys.argv[1], "pid").write_text(str(os.getpid()))
while True:
    time.sleep(0.01)
"""


@pytest.fixture
def running(tmp_path):
    """A process that runs PROGRAM by ``run``, and what there is of the program: (process, its folder, its pid)."""
    code = f"import sys; from utils.commands import run; run('-c', {PROGRAM!r}, sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    try:
        yield process, tmp_path, pid
    finally:
        process.kill()
        process.wait()
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process is told of its parent's end by Linux alone")
def test_killing_the_parent_does_not_leave_the_program_alive(running) -> None:
    process, folder, pid = running
    process.kill()
    wait_for(lambda: not is_alive(pid))
    assert (folder / "got").read_text() == "SIGTERM"


@pytest.mark.slow
def test_sigterm_is_passed_on_and_the_status_is_the_programs(running) -> None:
    process, folder, pid = running
    process.terminate()
    assert process.wait(30) == 7 and not is_alive(pid)
    assert (folder / "got").read_text() == "SIGTERM"


@pytest.mark.slow
def test_each_ctrl_c_arrives_once(running) -> None:
    process, folder, pid = running
    process.send_signal(signal.SIGINT)
    wait_for(lambda: (folder / "got").exists() and (folder / "got").read_text())
    assert process.poll() is None and is_alive(pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 7
    assert (folder / "got").read_text() == "SIGINT SIGINT"


@pytest.mark.slow
def test_a_program_that_fails_or_is_killed_ends_this_one_with_its_status() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for code, status in (("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)):
        with pytest.raises(SystemExit) as ended:
            run("-c", code)
        assert ended.value.code == status
    run("-c", "")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
