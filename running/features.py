"""What programs share that make something of each file of a list once, by the recipe's ``features``."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser(
    name: str, about: str | None, *, listed: str, output: str, metavar: str, recipe: str
) -> argparse.ArgumentParser:
    """The command line of ``python -m name``.

    Args:
        listed, output, recipe: what these are, for --help.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m {name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("list", metavar="LIST", help=listed)
    add("--output", required=True, type=Path, metavar=metavar, help=output)
    add("-config", "--config_path", required=True, metavar="FILE", help=recipe)
    add("-gpus", "--gpus", nargs="+", default=["auto"], metavar="DEVICE", help="cuda:0 ..., or cpu (default: all)")
    add("-proc", "--proc", type=int, metavar="N", help="processes over the devices (default: one a GPU or core)")
    add("--overwrite", action="store_true", help="make again what is already there")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; repeatable")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    return made


def make_features(args: argparse.Namespace, where: str | Path, output: Path) -> int:
    """Do what is missing; returns the exit status: 1 if a file failed. Raises as ``running.run.run_list``."""
    from running.run import Options, run_list
    from running.work import Setup

    setup = Setup("features", args.config_path, overrides=tuple(args.override))
    return run_list(setup, where, output, Options(args.gpus, args.proc, overwrite=args.overwrite))
