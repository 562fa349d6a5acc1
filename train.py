"""Train any system of this project from its recipe, on a CPU, a GPU or many.

The recipe's `gpus` says where: this program starts one process a device. On several nodes, start it with torchrun
instead. The same command continues a run that was stopped.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from utils.task import Task

log = logging.getLogger("train")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python train.py --config_path config/tselm_l.yaml --log exp/log --ckpt_path exp/ckpt "
        "--override gpus=[0,1]\n  torchrun --nnodes 2 --nproc_per_node 8 ... train.py "
        "--config_path config/tselm_l.yaml --log_path exp/log --ckpt_path exp/ckpt",
    )
    parser.add_argument("--config_path", required=True, metavar="FILE", help="recipe, a YAML file of config/")
    # torchrun takes a bare --log for one of its own options, hence the longer name
    parser.add_argument(
        "--log",
        "--log_path",
        required=True,
        dest="log",
        metavar="DIR",
        help="folder for train.log, metrics.jsonl, tensorboard",
    )
    parser.add_argument("--ckpt_path", required=True, metavar="DIR", help="folder for last.pth and best.pth")
    parser.add_argument(
        "--init",
        metavar="FILE",
        help="checkpoint whose weights a new run starts from, to train them further",
    )
    parser.add_argument(
        "--export",
        metavar="DIR",
        help="when all epochs are done, write the best weights there, in the form in which other recipes read them",
    )
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; repeatable"
    )
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    from utils.errors import refuse_empty

    refuse_empty(parser, args)
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    # Threads that wait must sleep: by spinning they take the cores from the loaders and from other processes. It has
    # to be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from utils import distributed, launch
    from utils.errors import report_errors
    from utils.files import require_writable_folder
    from utils.recipe import Recipe

    with report_errors(args.debug) as outcome:
        for folder in (args.log, args.ckpt_path):
            require_writable_folder(folder)
        gpus = Recipe(args.config_path, overrides=args.override).build("gpus")["gpus"]
        if launch.started_by_torchrun():
            launch.end(train(launch.join_torchrun(gpus), args))
        outcome.status = launch.launch(distributed.parse_devices(gpus), train, args)
    return outcome.status


def train(device: object, args: argparse.Namespace) -> int:
    """Train in this process, one of several or the only one; returns the exit status."""
    from utils import distributed
    from utils.errors import STOPPED, report_errors
    from utils.logging import setup_console
    from utils.machine import keep_freed_memory
    from utils.progress import StopRequest
    from utils.recipe import Recipe
    from utils.seed import make_reproducible, seed_everything
    from utils.task import Task

    stop = StopRequest()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # the last one is a scheduler's warning
    delay = 0.0 if distributed.is_main() else 3.0
    with stop.on_signals(*signals), report_errors(args.debug, delay=delay) as outcome:
        setup_console(main=distributed.is_main(), file=Path(args.log) / "train.log")
        recipe = Recipe(args.config_path, overrides=args.override)
        seed_everything(recipe.build("seed")["seed"])  # the initial weights, in all processes alike
        built = recipe.build("task", "train_data", "valid_data", "trainer")
        if args.export and type(built["task"]).export is Task.export:
            raise ValueError("--export: this recipe's task has nothing to export: its checkpoint is what others read")
        make_reproducible()  # now that all libraries are imported
        keep_freed_memory()
        sizes = ", ".join(
            f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M in {name}"
            for name, net in built["task"].networks().items()
        )
        log.info("training %s parameters on %d x %s", sizes, distributed.world_size(), device)
        done = built["trainer"].fit(
            built["task"],
            built["train_data"],
            built["valid_data"],
            device=device,
            log_path=Path(args.log),
            ckpt_path=Path(args.ckpt_path),
            init=Path(args.init) if args.init else None,
            recipe=recipe.text(),
            stop=stop,
        )
        if not done:
            log.info("stopped and saved in %s; the same command continues", args.ckpt_path)
            outcome.status = STOPPED
        elif args.export and distributed.is_main():
            export(built["task"], Path(args.ckpt_path) / "best.pth", Path(args.export))
        distributed.leave()
    return outcome.status


def export(task: Task, best: Path, folder: Path) -> None:
    """Write the trained parts of the best checkpoint in the form in which other recipes read them."""
    from utils import checkpoint

    checkpoint.load_tensors(task.networks(), checkpoint.load(best)["model"], best)
    for path in task.export(folder):
        log.info("wrote %s", path)


if __name__ == "__main__":
    sys.exit(main())
