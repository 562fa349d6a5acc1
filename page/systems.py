"""What the page offers: systems that say, in a ``page.toml`` beside their weights, what they are and how to run them.

title = "One voice out of a mixture"        in the menu
says = "..."                                one or two sentences below it, in Markdown
button = "Extract the voice"                what is pressed
result = "the voice"                        what comes out
job = "extract"                             of inference.py
recipe = "config/toy/tselm.yaml"            from the project's folder, as checkpoint
checkpoint = "pretrained/toy/tselm.pth"
place = 1                                   in the menu

[inputs]                                    by role, one or two; what to call them
mixture = "The recording"
enrolment = "The voice"

[example]                                   by role, from the folder of this file
mixture = "examples/mixture.flac"

[[ways]]                                    to run it; each that is chosen gives a result
name = "1 codebook"
chosen = true                               at the start
overrides = ["codebooks=1"]                 of the recipe
given = {speaker = "1001"}                  inputs that are texts
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.load import offered
from running.work import Setup
from utils.recipe import Recipe

FILE = "page.toml"
_INPUTS = {  # job -> roles of its inputs that are sound, and what they are called, where no file says it
    "extract": {"mixture": "The recording", "enrolment": "The voice"},
    "resynthesise": {"audio": "The recording"},
    "continue": {"audio": "The recording"},
}


@dataclass(frozen=True)
class Way:
    """One way to run a system.

    Attributes:
        name: what its result is called.
        overrides: ``KEY=VALUE`` texts for the recipe.
        given: role -> text.
        chosen: at the start.
    """

    name: str
    overrides: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = True


@dataclass(frozen=True)
class System:
    """An entry of the menu; see the head of this file.

    Attributes:
        example: role -> file; empty where there is none.
        ways: one at least.
    """

    title: str
    says: str
    button: str
    result: str
    job: str
    recipe: str
    checkpoint: str | None
    inputs: Mapping[str, str]
    example: Mapping[str, str]
    ways: tuple[Way, ...]
    place: float = 100.0
    overrides: tuple[str, ...] = ()

    def setup(self, way: Way, *, threads: int) -> Setup:
        return Setup(self.job, self.recipe, self.checkpoint, (*self.overrides, *way.overrides), threads)


def read_system(path: str | os.PathLike) -> System:
    """A system from its file.

    Raises:
        ValueError: the file is no TOML, a key is missing or unknown, or has a wrong value; the message names the file.
        OSError: it cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as file:
        try:
            content = tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path}: {error}") from error
    ways = content.pop("ways", [{"name": content.get("result")}])
    example = {role: str(path.parent / name) for role, name in content.pop("example", {}).items()}
    try:
        made = tuple(Way(**{**way, "overrides": tuple(way.get("overrides", ()))}) for way in ways)
        overrides = tuple(content.pop("overrides", ()))
        system = System(**{"checkpoint": None, **content, "example": example, "ways": made, "overrides": overrides})
    except TypeError as error:  # it names the key
        raise ValueError(f"{path}: {error}") from error
    if not 1 <= len(system.inputs) <= 2 or set(example) - set(system.inputs):
        raise ValueError(f"{path}: inputs must be one or two, and the example's be among them")
    if not made:
        raise ValueError(f"{path}: ways is empty; leave it out where there is but one")
    return system


def find_systems(folder: str | os.PathLike = "pretrained") -> list[System]:
    """Those of the folders in ``folder``, in the order of their places."""
    found = [read_system(path) for path in sorted(Path(folder).glob(f"*/{FILE}"))]
    return sorted(found, key=lambda system: system.place)


def own_systems(config: str, checkpoint: str | None, overrides: Sequence[str]) -> list[System]:
    """Those of a recipe and a checkpoint: one for each of its jobs that takes and gives sound.

    Raises:
        ValueError, OSError: the recipe cannot be read, or has no such job.
    """
    recipe = Recipe(config, overrides=list(overrides))
    jobs = [job for job in offered(recipe) if job in _INPUTS]
    if not jobs:
        raise ValueError(
            f"{config} offers {', '.join(offered(recipe)) or 'nothing to run'}, which the page cannot show"
        )
    weights = f" with `{checkpoint}`" if checkpoint else ""
    return [
        System(
            title=f"{Path(config).stem}: {job}",
            says=f"`{config}`{weights}.",
            button=job.capitalize(),
            result="the result",
            job=job,
            recipe=config,
            checkpoint=checkpoint,
            inputs=_INPUTS[job],
            example={},
            ways=(Way("the result"),),
            place=0.0,
            overrides=tuple(overrides),
        )
        for job in jobs
    ]


def by_title(systems: Iterable[System]) -> dict[str, System]:
    """Title -> system.

    Raises:
        ValueError: there are none, or two have the same title.
    """
    named: dict[str, Any] = {}
    for system in systems:
        if system.title in named:
            raise ValueError(f"two systems are called {system.title!r}: {named[system.title].recipe}, {system.recipe}")
        named[system.title] = system
    if not named:
        raise ValueError("no system to show: start it from the project's folder, or give -config FILE and -ckpt FILE")
    return named
