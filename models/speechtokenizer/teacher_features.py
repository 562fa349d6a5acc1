"""The teacher's features of a list of files, made once: DIR/NAME.npy, float16 [N, S], and features.json, which says
what they are. Trainings read them instead of asking the teacher.

python -m models.speechtokenizer.teacher_features LIST --output DIR --config_path config/speechtokenizer.yaml \
  --override teacher_path=FOLDER

What is finished stays finished: the same command does what is missing.
"""

from __future__ import annotations

import os
import sys


def main(argv: list[str] | None = None) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as in inference.py
    from running.features import make_features, parser
    from utils.errors import report_errors
    from utils.logging import setup_console

    args = parser(
        "models.speechtokenizer.teacher_features", __doc__, listed="`name path` lines, or a speaker index",
        output="folder for the features", metavar="DIR", recipe="recipe of a codec; it names the teacher",
    ).parse_args(argv)  # fmt: skip
    setup_console()
    with report_errors(args.debug) as outcome:
        outcome.status = make_features(args, args.list, args.output)
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
