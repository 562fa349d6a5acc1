"""A system at work on one person's recordings: as ``inference.py`` does it, with its progress, and a way to stop it."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.interfaces import Item, Program, Recording, Role
from models.load import load_program
from page.line import Task
from page.systems import System, Way
from running.jobs import Group, Job
from running.work import Setup, do_group, settle
from utils.errors import USER_ERRORS

_KEPT = 4  # programs in memory


class Programs:
    """Loads programs when they are first asked for, and keeps the last few.

    Args:
        device: where they compute.
        threads: on the CPU.
    """

    def __init__(self, device: torch.device, threads: int):
        self.device, self.threads = device, threads
        self._kept: OrderedDict[Setup, Program] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, system: System, way: Way) -> Program:
        """Raises ValueError or OSError as ``models.load.load_program``."""
        setup = system.setup(way, threads=self.threads)
        with self._lock:
            if setup not in self._kept:
                self._kept[setup] = load_program(setup.recipe(), setup.job, setup.checkpoint, device=self.device)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(setup)
            settle(self.device, self.threads)
            return self._kept[setup]

    def begin(self, system: System) -> None:
        """Load what will be asked for first, meanwhile; what is wrong with it is told to whoever asks."""

        def load() -> None:
            with contextlib.suppress(*USER_ERRORS):
                self.get(system, system.ways[0])

        threading.Thread(target=load, name="load", daemon=True).start()


def run(program: Program, name: str, inputs: Mapping[str, str], output: Path, watch: Watch) -> dict[str, Any]:
    """Run a program on one item, into a file.

    Args:
        name: of the item; what is drawn follows from it.
        inputs: role -> file, or text.
        output: of the sound.
        watch: is told of all that is read and made.

    Returns:
        The row that is a result beside the sound; empty where there is none.

    Raises:
        ValueError: what the command line says of it.
        Stopped: the watch's task was stopped.
    """
    sound = next((role for role, result in program.results.items() if result.kind == "audio"), None)
    if sound is None:
        raise ValueError("nothing that this system gives can be heard")
    names = program.outputs(Item(name, inputs))
    outputs = {out: {sound: str(output)} for out in names[:1]} | {out: {} for out in names[1:]}
    job = Job(name, inputs, outputs)
    outcome = do_group(Watched(program, watch), Group((job,), frozenset([name])))
    if outcome.failed:
        raise ValueError(outcome.failed[name])
    return dict(outcome.rows.get(name, {}))


class Watch:
    """Tells a task how far a program is, and stops it where the task is to stop.

    Half of the way is to hear what is given, half to make what comes of it: some systems do one after the other, some
    both at once.

    Args:
        task: is told.
        ways: how often all is heard and made.
        way: which of them this is, from 0 on.
    """

    def __init__(self, task: Task, *, way: int = 0, ways: int = 1):
        self.task, self.way, self.ways = task, way, ways
        self.heard = self.made = 0.0
        task.check()

    def tell(self, doing: str, *, heard: float | None = None, made: float | None = None) -> None:
        """Parts of all that is heard, or made, in [0, 1]. Raises ``Stopped``."""
        self.task.check()
        self.heard = max(self.heard, heard or 0.0)
        self.made = max(self.made, made or 0.0)
        self.task.doing = doing
        self.task.progress = (self.way + (min(self.heard, 1.0) + min(self.made, 1.0)) / 2) / self.ways


class Watched:
    """A program that tells a watch of what it reads and makes; else the same."""

    def __init__(self, program: Program, watch: Watch):
        self._program, self._watch = program, watch
        self.inputs: Mapping[str, Role] = program.inputs
        self.results: Mapping[str, Role] = program.results

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        (item,) = items
        first = next((role for role, value in item.inputs.items() if isinstance(value, Recording)), None)
        seconds = 0.0
        inputs = dict(item.inputs)
        if first is not None:
            recording = inputs[first]
            seconds = recording.samples / self.inputs[first].sample_rate
            inputs[first] = Recording(self._reading(recording), recording.samples, recording.source)
        return [
            {role: self._making(role, value, seconds) for role, value in result.items()}
            for result in self._program([Item(item.name, inputs)])
        ]

    def _reading(self, recording: Recording):
        def read(start: int, length: int) -> np.ndarray | torch.Tensor:
            self._watch.tell("hears it", heard=start / recording.samples)
            wav = recording.read(start, length)
            self._watch.tell("hears it", heard=(start + wav.shape[-1]) / recording.samples)
            return wav

        return read

    def _making(self, role: str, value: Any, seconds: float) -> Any:
        spec = self.results[role]
        if spec.kind != "audio" or isinstance(value, torch.Tensor | np.ndarray):
            return value

        def parts() -> Iterator[torch.Tensor | np.ndarray]:
            made = 0.0
            for part in value:
                made += part.shape[-1] / spec.sample_rate
                self._watch.tell("makes the sound", made=made / seconds if seconds else 0.0)
                yield part

        return parts()
