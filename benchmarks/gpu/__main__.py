"""All that a GPU is for, on one card, in the time given: that it is right, how fast, and where the time goes.

Writes one table in Markdown, anew with each line, and beside it which kernels took the time (``.profile.txt``). Each
part has a time limit of its own; one that fails is a line, and the others go on. The dearest come last. Weights are
random where none are shipped: speed does not depend on them. ``--toy --device cpu`` tries the command itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.plan import PARTS, Part
from benchmarks.gpu.table import Line, Table
from benchmarks.measure import Row, parser
from utils.distributed import parse_devices
from utils.machine import device_name
from utils.precision import instructions

LEAST = 8.0  # seconds; with less left no part is begun


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.set_defaults(device="cuda:0", repeats=None)
    options.add_argument("--minutes", type=float, default=8.0, help="for all of it (%(default)s)")
    options.add_argument("--output", type=Path, default=Path("gpu.md"), help="file of the table (%(default)s)")
    options.add_argument("--only", nargs="+", default=[], metavar="PART", help=f"of {', '.join(PARTS)}")
    options.add_argument("--commit", help="what is measured, where git cannot say it")
    args = options.parse_args(argv)
    if unknown := [name for name in args.only if name not in PARTS]:
        options.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    try:
        (device,) = parse_devices(args.device)
    except ValueError as error:
        options.error(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * args.minutes
    table = Table(args.output, facts(device, args.commit))
    table.write()
    print(table.text(), flush=True)
    profile = args.output.with_suffix(".profile.txt")
    profile.unlink(missing_ok=True)
    chosen = [part for name, part in PARTS.items() if not args.only or name in args.only]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        run_all(chosen, table, until, command(args, folder, profile))
    print(f"\n{table.text()}\nthe table is in {args.output}, what took the time in {profile}", flush=True)
    return 0


def command(args: argparse.Namespace, folder: str, profile: Path) -> list[str]:
    """A worker's, but for its pipe."""
    made = [sys.executable, "-m", "benchmarks.gpu.worker", "--device", args.device, "--folder", folder]
    made += [
        "--profile",
        str(profile),
        "--repeats",
        str(args.repeats or (1 if args.toy else 3)),
        "--threads",
        str(args.threads),
    ]
    return made + ["--toy"] * args.toy


def run_all(parts: list[Part], table: Table, until: float, worker_command: list[str]) -> None:
    """Do the parts one after the other; a worker that hangs or dies is replaced by another."""
    worker: Worker | None = None
    toy = "--toy" in worker_command
    try:
        for part in parts:
            since = time.monotonic()
            if until - since < LEAST:
                table.add(Line(part.name, "all of it", "not run", "no time was left"))
                continue
            worker = worker or Worker(worker_command)
            limit = min(60.0 if toy else part.limit, until - since)
            problem = do(part, worker, table, since + limit)
            if problem:
                table.add(Line(part.name, "the rest of it", "failed", problem.format(limit=f"{limit:.0f}")))
                worker.kill()
                worker = None
            print(f"-- {part.name}: {time.monotonic() - since:.0f} s", flush=True)
    finally:
        if worker:
            worker.end()


def do(part: Part, worker: Worker, table: Table, deadline: float) -> str | None:
    """Let the worker do a part; returns what is wrong with the worker."""
    worker.ask(part.name)
    for message in worker.messages(deadline):
        if message is None:
            return "it took longer than its {limit} s"
        if "line" in message:
            row = message["line"].pop("row")
            table.add(Line(**message["line"], row=row and Row(**row)))
        table.peaks |= message.get("peaks", {})
        if "error" in message:
            table.add(Line(part.name, "the rest of it", "failed", message["error"]))
        if "done" in message:
            return None
    return f"its process ended with status {worker.process.wait()}"


class Worker:
    """A process that does parts, with all that it starts."""

    def __init__(self, worker_command: list[str]):
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            [*worker_command, "--pipe", str(writing)],
            stdin=subprocess.PIPE,
            pass_fds=[writing],
            bufsize=0,
            start_new_session=True,
        )
        os.close(writing)
        self._reading = reading
        self._read = b""

    def ask(self, name: str) -> None:
        try:
            self.process.stdin.write(f"{name}\n".encode())
        except BrokenPipeError:
            pass  # it has ended, and its messages end with it

    def messages(self, deadline: float) -> Iterator[dict[str, Any] | None]:
        """What it tells, until it ends; None when the time is over."""
        while True:
            while b"\n" in self._read:
                line, _, self._read = self._read.partition(b"\n")
                yield json.loads(line)
            if not select.select([self._reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
                yield None
                return
            if not (read := os.read(self._reading, 2**16)):
                return
            self._read += read

    def kill(self) -> None:
        """End it, and what it has started."""
        with contextlib.suppress(ProcessLookupError):  # it has ended, and all that it started has
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        os.close(self._reading)

    def end(self) -> None:
        """Let it end by itself, if it can."""
        self.ask("")
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self.process.poll() is None:
                self.kill()
            else:
                self.process.stdin.close()
                os.close(self._reading)


def facts(device: torch.device, commit: str | None) -> list[str]:
    """Of the machine and of what is measured."""
    card = device_name(device)
    if device.type == "cuda":
        query = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader", f"-i={device.index}"]
        memory = torch.cuda.get_device_properties(device).total_memory
        card += f", {memory / 2**30:.0f} GiB, driver {output_of(query).partition(',')[0]}"
    cpu = torch.device("cpu")
    where = f"{device_name(cpu)} ({instructions(cpu)})"
    software = f"torch {torch.__version__}, CUDA {torch.version.cuda}, Python {sys.version.split()[0]}"
    what = commit or output_of(["git", "rev-parse", "--short", "HEAD"])
    return [f"card: {card}", f"CPU: {where}", software, f"commit {what}, {datetime.now(UTC):%Y-%m-%d}"]


def output_of(words: list[str]) -> str:
    """What a program says; ``unknown`` where it cannot say it."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else "unknown"


if __name__ == "__main__":
    sys.exit(main())
