"""Disks that are full, or cannot be written: the last good file stays, the error names path and free space."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.torture import work
from tests.torture.attack import Impossible, Place, attack
from tests.torture.programs import Program, run
from tests.torture.systems import TRAININGS, require_same_end, saved, undisturbed


@contextlib.contextmanager
def disk(folder: Path, size: int, *options: str) -> Iterator[Path]:
    """A disk of so many bytes, mounted at a folder.

    Raises:
        Impossible: this process may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True)
    if made.returncode:
        raise Impossible(f"mounting is not allowed here ({made.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, left: int) -> Path:
    """A file that leaves so many bytes free."""
    path = folder / "filling"
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    with open(path, "rb+") as file:
        file.truncate(max(0, path.stat().st_size - left))
    return path


def require_told(program: Program, status: int, path: Path) -> None:
    """The error is a line that names a path below this one, and what is wrong with it."""
    text = program.text()
    assert status in (1, 2), f"exit status {status}: {text[-2000:]}"
    assert "Traceback" not in text and "--- Logging error ---" not in text, text[-3000:]
    (*_, said) = [line for line in text.splitlines() if str(path) in line] or [""]
    assert "No space left" in said or "bytes are free" in said, text[-1500:]


@attack("a full disk while a checkpoint is saved", promise="full disk", over=list(TRAININGS))
def full_checkpoints(place: Place, number: int, name: str) -> None:
    """The first save fits, the second does not; when there is room again, the training ends as if nothing had been."""
    whole, folder = undisturbed(place, name), place.fresh("run")
    size = (whole / "ckpt/last.pth").stat().st_size
    with disk(folder / "ckpt", size * 5 // 2 + 50_000):
        filling = fill(folder / "ckpt", size * 3 // 2 + 40_000)
        program = Program(*TRAININGS[name].command(place, folder), said=folder / "said.txt")
        require_told(program, program.wait(), folder / "ckpt")
        assert 0 < saved(folder)["state"]["progress"]["step"] < saved(whole)["state"]["progress"]["step"]
        assert not list((folder / "ckpt").glob(".partial-*")), "a half file stays"
        filling.unlink()
        subprocess.run(["mount", "-o", f"remount,size={size * 6}", str(folder / "ckpt")], check=True)
        run(*TRAININGS[name].command(place, folder), said=folder / "said.txt")
        require_same_end(whole, folder)


@attack("a full disk while the log is written", promise="full disk", long=3)
def full_log(place: Place, number: int) -> None:
    """Of the log folder alone: the training is saved, the log is named."""
    whole, folder = undisturbed(place, "DP-SLM"), place.fresh("run")
    command = TRAININGS["DP-SLM"].command(place, folder, save_interval=None)
    with disk(folder / "log", 200_000):
        filling = fill(folder / "log", 1000 * number)
        program = Program(*command, said=folder / "said.txt")
        require_told(program, program.wait(), folder / "log")
        filling.unlink()
        run(*TRAININGS["DP-SLM"].command(place, folder), said=folder / "said.txt")
    require_same_end(whole, folder)


@attack("a full disk under results", promise="full disk", over=[name for name in work.JOBS if name != "evaluation"])
def full_results(place: Place, number: int, name: str) -> None:
    """Files that do not fit fail by name; with room again the same command makes them, and all are as ever."""
    whole, folder = work.undisturbed(place, name), place.fresh("run")
    command = work.command(place, name, folder / "out")
    with disk(folder / "out", 200_000):
        filling = fill(folder / "out", 4_096 if name == "DP-SLM scores" else 20_000)
        program = Program(*command, said=folder / "said.txt")
        require_told(program, program.wait(), folder / "out")
        assert not list((folder / "out").rglob(".partial-*")), "a half file stays"
        filling.unlink()
        subprocess.run(["mount", "-o", "remount,size=8m", str(folder / "out")], check=True)
        run(*command, said=folder / "said.txt")
        work.require_same_results(whole, folder / "out")


@attack("a read-only disk", promise="full disk", over=["training", *work.JOBS])
def read_only(place: Place, number: int, name: str) -> None:
    """It is found before anything is loaded or computed."""
    folder = place.fresh("run")
    if name == "training":
        command = TRAININGS["DP-SLM"].command(place, folder)
        where = folder / "ckpt"
    else:
        where = folder / "out"
        command = work.command(place, name, where / "below" if name != "evaluation" else where)
    with disk(where, 1_000_000, "ro"):
        program = Program(*command, said=folder / "said.txt")
        status, text = program.wait(), program.text()
    assert status == 2 and "Traceback" not in text and str(where) in text, f"exit status {status}: {text[-2000:]}"
    assert "read-only" in text.lower() and "%" not in text, text[-1500:]
