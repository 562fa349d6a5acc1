"""The vectors of voices of a list of files, by the recipe's speaker_encoder: FILE.safetensors, which the recipe then
reads as speaker_embeddings.

python -m models.resynthesis.voice_vectors LIST --output FILE.safetensors --config_path MINE.yaml

A vector has the name of its utterance or, with --by speaker, of its speaker: the mean over the speaker's utterances.
What is finished stays finished, in FILE.vectors: the same command does what is missing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as in inference.py
    from running.features import make_features, parser
    from utils.errors import report_errors
    from utils.logging import setup_console

    made = parser(
        "models.resynthesis.voice_vectors", __doc__, listed="`name path` lines, or a speaker index",
        output="the vectors by name", metavar="FILE.safetensors", recipe="recipe with a speaker_encoder",
    )  # fmt: skip
    made.add_argument(
        "--by", choices=("utterance", "speaker"), default="utterance", help="whose a name is (%(default)s)"
    )
    args = made.parse_args(argv)
    if args.output.suffix != ".safetensors":
        made.error(f"--output is a .safetensors file, got {args.output}")
    setup_console()
    with report_errors(args.debug) as outcome:
        folder = args.output.with_suffix(".vectors")
        outcome.status = make_features(args, args.list, folder)
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
