"""How a pretrained system is made: stages in order, each done once, that run this project's own programs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from utils.commands import overrides, run, step


class Making:
    """The stages of a system's making, and where each leaves what it makes.

    What is finished stays finished: after a kill, the same command goes on.

    Args:
        folder: where all goes; ``stages.json`` there says what is done.
        hours: of synthetic training speech.
        gpus: of the trainings, as the recipes' key.
        changes: ``RECIPE:KEY=VALUE``, keys of recipes to change.
    """

    def __init__(self, folder: Path, *, hours: float, gpus: str, changes: list[str]):
        self.folder = folder
        self.hours = hours
        self.gpus = gpus
        self.changes = changes
        self.data = folder / "data"
        self.parts = folder / "parts"
        self.release = folder / "release"
        self.record = folder / "stages.json"

    @classmethod
    def main(cls, argv: list[str] | None, *, about: str | None, output: str, hours: float, shipped: str) -> int:
        """The command line of a making; returns the exit status.

        Args:
            about: what ``--help`` says first.
            output, hours: the defaults of the options.
            shipped: the folder of the project that the release is for.
        """
        args = parse_args(argv, about=about, output=output, hours=hours)
        made = cls(args.output, hours=args.hours, gpus=args.gpus, changes=args.override)
        status = made.work(until=args.until)
        if status == 0 and not args.until:
            print(f"\nwhat was made is in {made.release}: cp -r {made.release}/. {shipped}")
        return status

    def stages(self) -> dict[str, Callable[[], None]]:
        raise NotImplementedError

    def work(self, *, until: str | None = None) -> int:
        """Do what is left, to the end or to the end of a stage; returns the exit status."""
        stages = self.stages()
        if until and until not in stages:
            print(f"error: --until must be one of {', '.join(stages)}, got {until!r}", file=sys.stderr)
            return 2
        for name, work in stages.items():
            self.once(name, work)
            if name == until:
                break
        return 0

    def once(self, name: str, work: Callable[[], None]) -> None:
        """Do a stage, unless it is done, and note how long it took, over all attempts that ended by themselves."""
        from utils.files import write_json

        record = json.loads(self.record.read_text()) if self.record.exists() else {}
        then = record.get(name, {"seconds": 0.0, "done": False})
        if then["done"]:
            return
        since, done = time.perf_counter(), False
        try:
            step(name)
            work()
            done = True
        finally:
            seconds = round(then["seconds"] + time.perf_counter() - since, 1)
            write_json(self.record, {**record, name: {"seconds": seconds, "done": done}})

    def make_data(self, *, speakers: int, **more: object) -> None:
        """Synthetic voices; ``more`` are arguments of the program that makes them."""
        run(
            "-m", "data.prepare.synthetic", "--output", self.data, "--hours", self.hours, "--speakers", speakers,
            *flags(more),
        )  # fmt: skip

    def speakers(self, an_hour: int) -> int:
        """As many for each hour of speech, and not too few."""
        return max(round(an_hour * self.hours), 16)

    def train(
        self,
        recipe: str,
        *,
        folder: str | None = None,
        export: bool = False,
        part: str | None = None,
        **keys: object,
    ) -> None:
        """Train one of the recipes in ``DIR/folder``; with ``export``, its best weights become a part."""
        where = self.folder / (folder or recipe)
        command = ["--config_path", self.recipe(recipe), "--log", where / "log", "--ckpt_path", where / "ckpt"]
        if export:
            command += ["--export", self.parts / (part or recipe)]
        run("train.py", *command, *overrides({**keys, "gpus": self.gpus, **self.changes_of(recipe)}))

    def recipe(self, name: str) -> str:
        """Its path."""
        return f"config/toy/{name}.yaml"

    def changes_of(self, recipe: str) -> dict[str, str]:
        """The keys of a recipe that the command line changes."""
        own = [text.partition(":")[2] for text in self.changes if text.startswith(f"{recipe}:")]
        return dict(text.split("=", 1) for text in own)

    def devices(self) -> list[str]:
        return ["cpu", "-proc", "2"] if "cpu" in self.gpus else ["auto"]


def flags(values: Mapping[str, object]) -> list[object]:
    """As arguments of a program."""
    return [text for name, value in values.items() for text in (f"--{name}", value)]


def parse_args(argv: list[str] | None, *, about: str | None, output: str, hours: float) -> argparse.Namespace:
    """The command line of a making; ``output`` and ``hours`` are its defaults."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default=output, type=Path, metavar="DIR", help="where all goes (%(default)s)")
    parser.add_argument("--hours", default=hours, type=float, help="of synthetic training speech (%(default)s)")
    parser.add_argument(
        "--gpus",
        default="[cpu, cpu]",  # two processes of one thread are half as fast again as one of two threads
        help="of the trainings, as the recipes' key (%(default)s)",
    )
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="RECIPE:KEY=VALUE",
        help="change a key of one of the recipes, to try the whole at another size: %(metavar)s; repeatable",
    )
    return parser.parse_args(argv)
