from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from page.folder import PREFIX, kept_while_running
from tests.processes import wait_for
from tests.toy import ROOT

WAIT = """
import sys, time
from page.folder import kept_while_running
with kept_while_running(sys.argv[1]) as folder:
    (folder / "mine.wav").write_bytes(b"sound")
    print("ready", flush=True)
    time.sleep(600)
"""


def test_it_is_there_while_the_context_is(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **more: None)  # without what sweeps after a kill
    with pytest.raises(RuntimeError), kept_while_running(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "mine.wav").write_bytes(b"sound")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_the_next_start_removes_what_nobody_holds_and_nothing_else(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **more: None)
    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    (left / ".in-use").touch()
    (left / "mine.wav").touch()
    strange = tmp_path / f"{PREFIX}strange"  # without a lock: it is not known whose it is
    strange.mkdir()
    with kept_while_running(tmp_path) as held, kept_while_running(tmp_path) as other:
        assert {path.name for path in tmp_path.iterdir()} == {held.name, other.name, strange.name}


@pytest.mark.slow
def test_a_kill_leaves_nothing(tmp_path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ}
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        assert len(list(tmp_path.rglob("mine.wav"))) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: not list(tmp_path.iterdir()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
