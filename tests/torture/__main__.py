"""Make all attacks, or some, and tell how often each was made and how often its promise held.

python -m tests.torture                      all, in their long form
python -m tests.torture --short              a few tries of each, as the tests do it
python -m tests.torture --only SIGKILL       those in whose name it is
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.attack import Result, all_attacks, make
from utils.files import write_json, write_text


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few tries of each")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="attacks with this in their name")
    parser.add_argument("--tries", type=int, metavar="N", help="of each attack")
    parser.add_argument("--list", action="store_true", help="name all attacks")
    parser.add_argument("--output", default="exp/torture", metavar="DIR", help="folder for torture.md and torture.json")
    parser.add_argument("--keep", metavar="DIR", help="work there, and leave what was made")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    attacks = [one for one in all_attacks() if not args.only or any(text in one.name for text in args.only)]
    if args.list:
        print("\n".join(f"{one.promise}: {one.name} ({one.short}, {one.long})" for one in attacks))
        return 0
    folder = Path(args.keep or tempfile.mkdtemp(prefix="torture-")).absolute()
    results: list[Result] = []
    since = time.monotonic()
    try:
        for one in attacks:
            print(f"{one.name} ...", flush=True)
            results.append(make(one, folder, tries=args.tries or (one.short if args.short else one.long)))
            print(f"    {tell(results[-1])}, {results[-1].seconds:.0f} s", flush=True)
            for failure in results[-1].failures:
                print(failure, flush=True)
            logging.root.handlers.clear()
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    output, seconds = Path(args.output), time.monotonic() - since
    text = markdown(results, seconds)
    write_text(output / "torture.md", text)
    write_json(output / "torture.json", {"seconds": seconds, "attacks": [dataclasses.asdict(one) for one in results]})
    print("\n" + text)
    return 1 if any(one.failures for one in results) else 0


def tell(result: Result) -> str:
    if result.impossible:
        return f"not tried: {result.impossible}"
    figures = ", ".join(f"{name} {value:g}" for name, value in result.figures.items())
    return f"held {result.held} of {result.tried}" + (f" ({figures})" if figures else "")


def markdown(results: list[Result], seconds: float) -> str:
    """The table: promise, fault, times tried, held, and what was counted."""
    lines = ["| promise | fault | tried | held | counted |", "|---|---|---|---|---|"]
    for one in results:
        figures = one.impossible or ", ".join(f"{name} {value:g}" for name, value in one.figures.items())
        lines.append(f"| {one.promise} | {one.name} | {one.tried} | {one.held} | {figures} |")
    tried, held = sum(one.tried for one in results), sum(one.held for one in results)
    lines.append(f"\n{held} of {tried} held, in {seconds / 60:.0f} minutes, Python {platform.python_version()}.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
