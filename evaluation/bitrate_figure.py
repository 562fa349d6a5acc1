"""Bitrate against error, a line for each number of clusters: the figure by which duration-penalised units are chosen.

The list has a JSON object a line, or is a JSON list of them: num_clusters, lmbda, error (in percent, of whatever is
measured), and bitrate, or units: a folder whose bitrate is then computed, relative to the list.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.bitrate import bitrate
from evaluation.curves import curves_svg
from utils.errors import report_errors
from utils.files import write_text


def read_settings(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The settings of a list, each with its bitrate.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: a row lacks something, or holds something else than numbers; it is named.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(x) for x in text.splitlines() if x]
    except ValueError as error:
        raise ValueError(f"{path} is no list of JSON objects ({error})") from error
    found = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise ValueError(f"{path}, row {number}: an object is expected, got {row!r}")
        row = dict(row)
        if "bitrate" not in row and isinstance(row.get("units"), str):
            row["bitrate"] = bitrate(Path(path).parent / row["units"])["bitrate"]
        wanted = ("num_clusters", "lmbda", "error", "bitrate")
        if lacking := [name for name in wanted if type(row.get(name)) not in (int, float)]:
            raise ValueError(f"{path}, row {number}: these are no numbers, or missing: {', '.join(lacking)}")
        found.append(row)
    return found


def draw(settings: Sequence[Mapping[str, Any]], *, error: str) -> str:
    """The figure, as SVG.

    Args:
        settings: of ``read_settings``.
        error: what is measured, for the axis.

    Raises:
        ValueError: there are no settings.
    """
    curves = {
        f"K = {k}": sorted((row["bitrate"], row["error"]) for row in settings if row["num_clusters"] == k)
        for k in sorted({row["num_clusters"] for row in settings})
    }
    title = "Units: bitrate against error; along a line lmbda rises to the left"
    return curves_svg(curves, title=title, x_title="bit/s", y_title=error)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", metavar="LIST", help="of settings, JSON")
    parser.add_argument("--output", required=True, metavar="FILE", help="picture that is written, .svg")
    parser.add_argument("--error", default="error (%)", metavar="TEXT", help="what is measured (%(default)s)")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    with report_errors(args.debug) as outcome:
        write_text(Path(args.output), draw(read_settings(args.settings), error=args.error))
        print(args.output)
        outcome.status = 0
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
