"""The teacher's features of a list of files, made once: DIR/NAME.npy, float16 [N, S], and features.json, which says
what they are. Trainings read them instead of asking the teacher.

python -m models.speechtokenizer.teacher_features LIST --output DIR --config_path config/speechtokenizer.yaml \
  --override teacher_path=FOLDER

What is finished stays finished: the same command does what is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    made = argparse.ArgumentParser(
        prog="python -m models.speechtokenizer.teacher_features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("list", metavar="LIST", help="`name path` lines, or a speaker index")
    add("--output", required=True, type=Path, metavar="DIR", help="folder for the features")
    add("-config", "--config_path", required=True, metavar="FILE", help="recipe of a codec; it names the teacher")
    add("-gpus", "--gpus", nargs="+", default=["auto"], metavar="DEVICE", help="cuda:0 ..., or cpu (default: all)")
    add("-proc", "--proc", type=int, metavar="N", help="processes over the devices (default: one a GPU or core)")
    add("--overwrite", action="store_true", help="make again what is already there")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; repeatable")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    return made.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as in inference.py
    from running.run import Options, run_list
    from running.work import Setup
    from utils.errors import report_errors
    from utils.logging import setup_console

    setup_console()
    with report_errors(args.debug) as outcome:
        setup = Setup("features", args.config_path, overrides=tuple(args.override))
        options = Options(args.gpus, args.proc, overwrite=args.overwrite)
        outcome.status = run_list(setup, args.list, args.output, options)
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
