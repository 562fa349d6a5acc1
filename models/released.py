"""Released files of any system here, turned into this project's formats.

python -m models.released convert kmeans FOLDER --output OUT
python -m models.released convert vocoder FOLDER --output OUT
python -m models.released convert checkpoint FILE --output OUT.pth

The readers live with their systems: ``models/SYSTEM/files.py`` and ``models/SYSTEM/released.py``, each with
``CONVERSIONS``, the kinds that it can convert. What has been read from here (``models.released.read_kmeans`` in a
recipe) still can be.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from utils.errors import report_errors
from utils.files import file_digest


def conversions() -> dict[str, Callable[[Path, Path], list[Path]]]:
    """Kind -> what turns a source into files of ours, and returns their paths; its docstring says from what to what."""
    return {kind: convert for module in _readers() for kind, convert in getattr(module, "CONVERSIONS", {}).items()}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(argv)
    with report_errors() as outcome:
        for path in options.convert(options.source, options.output):
            print(f"wrote {path}  sha256 {file_digest(path)}")
    return outcome.status


def __getattr__(name: str) -> Any:
    """The public names of the systems' readers."""
    if not name.startswith("_"):
        for module in _readers():
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _readers() -> Iterator[ModuleType]:
    for path in sorted(Path(__file__).parent.glob("*/*.py")):
        if path.stem in ("files", "released"):
            yield importlib.import_module(f"models.{path.parent.name}.{path.stem}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.released",
        description="Released files: turn them into this project's formats.",
    )
    verbs = parser.add_subparsers(required=True, metavar="convert")
    found = conversions()
    kinds = verbs.add_parser(
        "convert",
        help="turn released files into safetensors and plain checkpoints",
        description="Read released files, run nothing of what is in them, write them in this project's formats, and "
        "print the SHA-256 of what was written.",
    ).add_subparsers(required=True, metavar=f"{{{','.join(found)}}}")
    for kind, convert in found.items():
        text = (convert.__doc__ or kind).strip().splitlines()[0]
        command = kinds.add_parser(kind, help=text, description=f"Convert {text}.")
        command.add_argument("source", type=Path, metavar="FILE" if " FILE " in text else "FOLDER")
        command.add_argument("--output", type=Path, required=True, metavar="OUT")
        command.set_defaults(convert=convert)
    return parser


if __name__ == "__main__":
    sys.exit(main())
