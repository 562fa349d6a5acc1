"""SIGKILL at any moment, also in the middle of a save: the same command goes on, and ends bit by bit the same."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from tests.processes import is_alive
from tests.torture import work
from tests.torture.attack import Place, attack
from tests.torture.programs import Program, gone, run
from tests.torture.systems import TRAININGS, require_same_end, seconds, undisturbed

KILLS = 4  # of one run, before it may end
LEFT = 15.0  # seconds after which loaders and workers of a killed program must be gone


@attack("SIGKILL of a training", promise="killed training", over=list(TRAININGS), short=1, long=5)
def kill_training(place: Place, number: int, name: str) -> None:
    """Each run is killed several times: at random moments, and as soon as a checkpoint's temporary file appears."""
    whole, folder, draw = undisturbed(place, name), place.fresh("run"), random.Random(f"{name} {number}")
    command = TRAININGS[name].command(place, folder)
    for kill in range(KILLS):
        program = Program(*command, said=folder / "said.txt")
        if (number + kill) % 2:
            killed = kill_while_saving(program, folder / "ckpt", skip=draw.randrange(3))
        else:
            killed = kill_within(program, draw.uniform(0.0, seconds(whole)))
        place.count("kills", killed)
        gone(program.children(), LEFT)
    run(*command, said=folder / "said.txt")
    require_same_end(whole, folder)
    require_no_others(folder / "ckpt", {"last.pth", "best.pth"})


@attack("SIGKILL of a program over lists", promise="killed list", over=list(work.JOBS), short=1, long=4)
def kill_list(place: Place, number: int, name: str) -> None:
    """Inference, tokenising and evaluation, in one process and in two."""
    whole, folder, draw = work.undisturbed(place, name), place.fresh("run"), random.Random(f"{name} {number}")
    command = work.command(place, name, folder / "out", processes=1 + number % 2)
    for kill in range(KILLS):
        program = Program(*command, said=folder / "said.txt")
        if (number + kill) % 2:
            killed = kill_while_saving(program, folder / "out", skip=draw.randrange(4))
        else:
            killed = kill_within(program, draw.uniform(0.0, 3.0), group=bool(kill % 3))
        place.count("kills", killed)
    run(*command, said=folder / "said.txt")
    work.require_same_results(whole, folder / "out")


def kill_within(program: Program, seconds: float, *, group: bool = True) -> bool:
    """Kill it at a moment, if it has not ended before; its main process alone if not ``group``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and program.is_running():
        time.sleep(0.002)
    return _kill(program, group=group)


def kill_while_saving(program: Program, folder: Path, *, skip: int) -> bool:
    """Kill it as soon as a new temporary file is seen in a folder, ``skip`` others before."""
    seen = temporaries(folder)
    while program.is_running():
        if new := temporaries(folder) - seen:
            seen |= new
            if (skip := skip - len(new)) < 0:
                return _kill(program)
    return _kill(program)


def temporaries(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(".partial-*")}


def _kill(program: Program, *, group: bool = True) -> bool:
    children = program.children()
    program.send(signal.SIGKILL, group=group)
    killed = program.wait(60) == -signal.SIGKILL
    gone([pid for pid in children if is_alive(pid)], LEFT)
    return killed


def require_no_others(folder: Path, names: set[str]) -> None:
    """Raises AssertionError if files have other names than these, but for what kills have left under hidden ones."""
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".partial-")}
    assert found == names, f"{folder} holds {found}"
