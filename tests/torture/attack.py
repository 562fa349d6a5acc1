"""What an attack is, the list of all, and how they are run."""

from __future__ import annotations

import importlib
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODULES = (
    "hostile", "killed", "asked", "ranks", "numbers", "disks", "sounds", "lists", "load",
)  # fmt: skip
ATTACKS: list[Attack] = []


class Impossible(Exception):
    """An attack cannot be made on this machine; the text says why."""


@dataclass(frozen=True)
class Place:
    """Where an attack works.

    Attributes:
        folder: its own, kept between its tries.
        common: of all attacks of a run.
        figures: what it counts beside its tries: name -> number; the largest stays where the name begins with "most".
    """

    folder: Path
    common: Path
    figures: dict[str, float] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[Path], Any]) -> Path:
        """A folder that all attacks share, made by the first that asks for it."""
        folder = self.common / name
        if not folder.exists():
            being_made = folder.with_name(f"{name}.being-made")
            shutil.rmtree(being_made, ignore_errors=True)
            being_made.mkdir(parents=True)
            make(being_made)
            being_made.rename(folder)
        return folder

    def fresh(self, name: str) -> Path:
        """An empty folder of this attack."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def count(self, name: str, number: float = 1) -> None:
        before = self.figures.get(name, 0)
        self.figures[name] = max(before, number) if name.startswith("most") else before + number


@dataclass(frozen=True)
class Attack:
    """A fault that is made, and the promise that must hold all the same.

    Attributes:
        name: the fault.
        promise: the key of a line of ``docs/promises.md``.
        run: ``run(place, number)`` makes the fault once and raises if the promise did not hold. The number of the try
            is the seed of what is random in it.
        short, long: how many tries.
    """

    name: str
    promise: str
    run: Callable[[Place, int], None]
    short: int = 1
    long: int = 1


@dataclass
class Result:
    """What came of an attack: how often it was made and held, why not, and for how many seconds it ran."""

    name: str
    promise: str
    tried: int = 0
    held: int = 0
    impossible: str | None = None
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)


def attack(name: str, *, promise: str, short: int = 1, long: int = 1, over: Sequence[str] = ()) -> Callable:
    """Put a function into the list of attacks; with ``over``, one attack for each of these, which it gets too."""

    def listed(function: Callable) -> Callable:
        if not over:
            ATTACKS.append(Attack(name, promise, function, short, long))
        for one in over:
            ATTACKS.append(Attack(f"{name}: {one}", promise, _with(function, one), short, long))
        return function

    return listed


def _with(function: Callable, one: str) -> Callable[[Place, int], None]:
    return lambda place, number: function(place, number, one)


def all_attacks() -> list[Attack]:
    for module in MODULES:
        importlib.import_module(f"tests.torture.{module}")
    return ATTACKS


def make(one: Attack, folder: Path, *, tries: int) -> Result:
    """Make an attack so many times; a try that fails does not end it."""
    slug = "".join(c if c.isalnum() else "-" for c in one.name)
    place = Place(folder / slug, folder / "common")
    place.folder.mkdir(parents=True, exist_ok=True)
    result, since = Result(one.name, one.promise, figures=place.figures), time.monotonic()
    for number in range(tries):
        try:
            one.run(place, number)
        except Impossible as reason:
            result.impossible = str(reason)
            break
        except Exception:
            result.failures.append(f"try {number}:\n{traceback.format_exc()}")
        result.tried += 1
        result.held = result.tried - len(result.failures)
    result.seconds = time.monotonic() - since
    return result
