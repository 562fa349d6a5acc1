"""SIGTERM, a scheduler's SIGUSR1, and Ctrl-C once or twice: saved, left with a status that says so, and continued."""

from __future__ import annotations

import random
import signal
import time

from tests.processes import wait_for
from tests.torture import work
from tests.torture.attack import Place, attack
from tests.torture.killed import LEFT, require_no_others
from tests.torture.programs import Program, gone, run
from tests.torture.systems import TRAININGS, require_same_end, saved, undisturbed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
STOPPED = 130


@attack("SIGTERM, SIGUSR1 or Ctrl-C in a training", promise="asked to stop", over=list(TRAININGS), short=1, long=3)
def ask_training(place: Place, number: int, name: str) -> None:
    """To the whole group, as terminals and schedulers do, while steps are done; it has saved nothing until then."""
    whole, folder = undisturbed(place, name), place.fresh("run")
    command = TRAININGS[name].command(place, folder, save_interval=None, num_workers=number % 2)
    program = Program(*command, said=folder / "said.txt", before="tests.torture.faults.slow_steps")
    wait_for(lambda: "epoch 1" in program.text() or not program.is_running(), 120)
    time.sleep(random.Random(f"{name} {number}").uniform(0.1, 0.5))
    children = program.children()
    program.send(SIGNALS[number % 3])
    status = program.wait(120)
    assert status == STOPPED, f"{SIGNALS[number % 3].name}: exit status {status}: {program.text()[-1500:]}"
    assert "Traceback" not in program.text(), program.text()[-3000:]
    assert (folder / "ckpt/last.pth").exists(), "nothing was saved"
    saved(folder)
    gone(children, LEFT)
    run(*TRAININGS[name].command(place, folder), said=folder / "said.txt")
    require_same_end(whole, folder)
    require_no_others(folder / "ckpt", {"last.pth", "best.pth"})


@attack("Ctrl-C or SIGTERM in a program over lists", promise="asked to stop", over=list(work.JOBS), short=1, long=2)
def ask_list(place: Place, number: int, name: str) -> None:
    whole, folder = work.undisturbed(place, name), place.fresh("run")
    command = work.command(place, name, folder / "out", processes=2)
    program = Program(*command, said=folder / "said.txt")
    time.sleep(random.Random(f"{name} {number}").uniform(0.3, 2.5))
    children = program.children()
    program.send((signal.SIGINT, signal.SIGTERM)[number % 2])
    program.wait(60)
    text = program.text()
    # A worker that Ctrl-C meets while it still imports shows where: known, and not mended.
    if number % 2 == 0:
        assert text.count("Traceback") <= text.count("in spawn_main"), text[-3000:]
    gone(children, LEFT)
    left = [path for path in (folder / "out").rglob(".partial-*")] if (folder / "out").exists() else []
    assert number % 2 or not left, f"Ctrl-C left {left}"
    run(*command, said=folder / "said.txt")
    work.require_same_results(whole, folder / "out")
