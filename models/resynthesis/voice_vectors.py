"""The vectors of voices of a list of files, by the recipe's speaker_encoder: FILE.safetensors, which the recipe then
reads as speaker_embeddings.

python -m models.resynthesis.voice_vectors LIST --output FILE.safetensors --config_path MINE.yaml

A vector has the name of its utterance or, with --by speaker, of its speaker: the mean over the speaker's utterances.
What is finished stays finished, in FILE.vectors: the same command does what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    made = argparse.ArgumentParser(
        prog="python -m models.resynthesis.voice_vectors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("list", metavar="LIST", help="`name path` lines, or a speaker index")
    add("--output", required=True, type=Path, metavar="FILE.safetensors", help="the vectors by name")
    add("--by", choices=("utterance", "speaker"), default="utterance", help="whose a name is (%(default)s)")
    add("-config", "--config_path", required=True, metavar="FILE", help="recipe with a speaker_encoder")
    add("-gpus", "--gpus", nargs="+", default=["auto"], metavar="DEVICE", help="cuda:0 ..., or cpu (default: all)")
    add("-proc", "--proc", type=int, metavar="N", help="processes over the devices (default: one a GPU or core)")
    add("--overwrite", action="store_true", help="make again what is already there")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; repeatable")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    args = made.parse_args(argv)
    if args.output.suffix != ".safetensors":
        made.error(f"--output is a .safetensors file, got {args.output}")
    return args


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
        folder = args.output.with_suffix(".vectors")
        outcome.status = run_list(setup, args.list, folder, options)
        if outcome.status == 0:
            lines = (folder / "vectors.jsonl").read_text(encoding="utf-8").splitlines()
            write_vectors(args.output, [json.loads(line) for line in lines], by=args.by)
    return outcome.status


def write_vectors(path: Path, rows: Sequence[Mapping], *, by: str) -> None:
    """Rows with ``name``, ``speaker`` and ``vector`` as a safetensors file."""
    import torch
    from safetensors.torch import save_file

    from utils.files import whole_file

    groups: dict[str, list[list[float]]] = {}
    for row in rows:
        groups.setdefault(row["name"] if by == "utterance" else row["speaker"], []).append(row["vector"])
    vectors = {name: torch.tensor(group).mean(dim=0) for name, group in groups.items()}
    with whole_file(path) as temporary:
        save_file(vectors, temporary)
    print(f"{len(vectors)} vectors of {by}s in {path}")


if __name__ == "__main__":
    sys.exit(main())
