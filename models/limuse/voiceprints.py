"""The voiceprints of a folder of lists, made once: DIR, the same lists with a .npy voiceprint for each enrolment.

python -m models.limuse.voiceprints pairs/train --output pairs/train_voiceprints --config_path config/limuse.yaml \
  --override speaker_encoder=xvector --override speaker_encoder_path=wavlm-base-plus-sv

A training with the same recipe and DIR in place of the folder begins at once, and keeps in its checkpoints which
encoder they are of. What is finished stays finished: the same command does what is missing. Rows whose enrolment has no
voiceprint are told, and are in none of the lists.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as in inference.py
    from data.cues import LISTS
    from running.features import make_features, parser
    from utils.errors import report_errors
    from utils.logging import setup_console

    args = parser(
        "models.limuse.voiceprints", __doc__, listed="folder of lists, with aux_s1.scp",
        output="folder for the voiceprints and the lists", metavar="DIR", recipe="recipe with a speaker encoder",
    ).parse_args(argv)  # fmt: skip
    setup_console()
    with report_errors(args.debug) as outcome:
        where = Path(args.list)
        if args.output.resolve() == where.resolve():
            raise ValueError(f"--output {args.output} is the folder of lists itself, whose lists would be lost")
        outcome.status = make_features(args, where / LISTS["enrolment"], args.output / "voiceprints")
        write_lists(where, args.output, kept=LISTS.values(), enrolments=LISTS["enrolment"])
    return outcome.status


def write_lists(where: Path, output: Path, *, kept: Collection[str], enrolments: str) -> None:
    """The lists of ``where`` in ``output``, of the names that have a voiceprint there, in ``output/voiceprints``."""
    from data.scp import output_paths, read_scp, write_scp

    names = read_scp(where / enrolments)
    made = {n: path for n, path in output_paths(output / "voiceprints", names, ".npy").items() if path.is_file()}
    for file in kept:
        if file != enrolments and (where / file).is_file():
            write_scp(output / file, {name: path for name, path in read_scp(where / file).items() if name in made})
    write_scp(output / enrolments, made)
    print(f"{len(made)} of {len(names)} rows in the lists of {output}")


if __name__ == "__main__":
    sys.exit(main())
