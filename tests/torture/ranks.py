"""Two processes of a training, or the loaders of one: one dies or hangs, and the others do not wait for ever."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from tests.processes import wait_for
from tests.torture.attack import Place, attack
from tests.torture.programs import Program, gone, run
from tests.torture.systems import TRAININGS, require_same_end, saved, undisturbed

SLOW = "tests.torture.faults.slow_steps"


@attack("SIGKILL of a loader", promise="a process is lost", over=["TSELM", "LiMuSE"])
def kill_loader(place: Place, number: int, name: str) -> None:
    """As the system does where memory is short: what was trained is saved, and the error says what happened."""
    long = {"epoch_num": 60}  # so that the loader is far from its end
    whole, folder = undisturbed(place, name, **long), place.fresh("run")
    command = TRAININGS[name].command(place, folder, num_workers=1, save_interval=None, **long)
    program = Program(*command, said=folder / "said.txt", before=SLOW)
    wait_for(lambda: "1/" in program.text().rpartition("epoch 1")[2] or not program.is_running(), 120)
    time.sleep(0.3)
    for child in program.children():
        os.kill(child, signal.SIGKILL)
    status, text = program.wait(60), program.text()
    assert status == 2 and "Traceback" not in text, f"exit status {status}: {text[-3000:]}"
    assert "loader" in text and "killed" in text, text[-1000:]
    assert saved(folder)["state"]["progress"]["step"] > 0
    run(*TRAININGS[name].command(place, folder, **long), said=folder / "said.txt")
    require_same_end(whole, folder)


@attack("SIGKILL of one of two processes of a training", promise="a process is lost", short=1, long=3)
def kill_rank(place: Place, number: int) -> None:
    folder = place.fresh("run")
    before = set(Path("/dev/shm").iterdir())
    command = TRAININGS["DP-SLM"].command(place, folder, gpus="[cpu, cpu]", epoch=400)
    program = Program(*command, said=folder / "said.txt")
    wait_for(lambda: (folder / "ckpt/last.pth").exists() or not program.is_running(), 120)
    children = program.children()
    ranks = [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(ranks) == 2, f"{len(ranks)} processes: {program.text()[-2000:]}"
    os.kill(ranks[number % 2], signal.SIGKILL)
    since = time.monotonic()
    status = program.wait(60)
    place.count("most seconds", time.monotonic() - since)
    assert status == 137, f"exit status {status}: {program.text()[-2000:]}"
    gone(children, 15)
    saved(folder)
    # Semaphores have names until the process ends that keeps account of them, which here is the attack's own.
    left = {path for path in Path("/dev/shm").iterdir() if not path.name.startswith("sem.")} - before
    assert not left, f"shared memory stays: {left}"


@attack("a process of a training that hangs in its loader", promise="a process is lost")
def hang_rank(place: Place, number: int) -> None:
    """The other one leaves when the time is over that is waited for it, and says why."""
    folder = place.fresh("run")
    command = TRAININGS["DP-SLM"].command(place, folder, gpus="[cpu, cpu]")
    command = ["--log_path" if part == "--log" else part for part in command]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = []
    for rank in range(2):
        where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        said, environment = folder / f"said{rank}.txt", {key: str(value) for key, value in where.items()}
        before = "tests.torture.faults.hanging_loader"
        programs.append(Program(*command, said=said, before=before, environment=environment))
    since = time.monotonic()
    try:
        status = programs[0].wait(120)
    finally:
        programs[1].send(signal.SIGKILL)
        programs[1].wait()
    place.count("most seconds", time.monotonic() - since)
    text = programs[0].text()
    assert status == 2 and "Traceback" not in text, f"exit status {status}: {text[-3000:]}"
    assert "which hangs: in its loader" in " ".join(text.split()), text[-1000:]
