"""The public checkpoints of TSELM: readers that run nothing of what they read, and their conversion to our formats.

python -m models.released convert kmeans FOLDER --output OUT
python -m models.released convert vocoder FOLDER --output OUT
python -m models.released convert checkpoint FILE --output OUT.pth
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from models.released_checkpoint import STAND_INS, ReleasedCheckpoint, compare_frozen, parse_checkpoint, read_checkpoint
from models.released_folders import kmeans_layers, newer_names, read_kmeans, read_vocoder
from utils import checkpoint
from utils.errors import report_errors
from utils.files import readable

__all__ = [
    "STAND_INS",
    "ReleasedCheckpoint",
    "compare_frozen",
    "newer_names",
    "parse_checkpoint",
    "read_checkpoint",
    "read_kmeans",
    "read_vocoder",
    "write_kmeans",
    "write_released_kmeans",
    "write_vocoder",
]


def write_kmeans(folder: str | os.PathLike, centres: Mapping[int, Tensor]) -> list[Path]:
    """Write the centres [V, D] of each layer to ``kmeans.safetensors``, as the tensors ``layer_{l}``."""
    tensors = _independent({f"layer_{layer}": value for layer, value in centres.items()})
    return [_write(Path(folder) / "kmeans.safetensors", lambda path: save_file(tensors, path))]


def write_released_kmeans(folder: str | os.PathLike, centres: Mapping[int, Tensor], *, name: str) -> list[Path]:
    """Write the centres [V, D] of each layer in the released layout, for programs that read that.

    The files, ``{name}_k{V}_L{l}.pt``, are fitted ``MiniBatchKMeans`` of scikit-learn with float64 centres.

    Raises:
        ValueError: the folder has a ``kmeans.safetensors``, which readers would take instead.
    """
    folder = Path(folder)
    if (folder / "kmeans.safetensors").exists():
        raise ValueError(f"{folder} has a kmeans.safetensors, which readers would take instead: name another folder")
    import joblib
    from sklearn.cluster import MiniBatchKMeans  # here, since importing it takes seconds and draws random numbers

    written = []
    for layer, value in centres.items():
        model = MiniBatchKMeans(n_clusters=len(value))
        # what fit() sets and predict() and transform() ask for
        model.cluster_centers_ = value.detach().cpu().double().numpy()
        model._n_features_out, model.n_features_in_ = value.shape
        model._n_threads = 1
        path = folder / f"{name}_k{len(value)}_L{layer}.pt"
        written.append(_write(path, functools.partial(joblib.dump, model)))
    return written


def write_vocoder(folder: str | os.PathLike, arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> list[Path]:
    """Write the arguments and the state dict of a ``UnitHifiganGenerator`` as ``vocoder.json`` and ``.safetensors``."""
    tensors = _independent(state)
    text = json.dumps({"generator": "UnitHifiganGenerator", "arguments": dict(arguments)}, indent=1) + "\n"
    # the settings last: a folder that has them is complete
    return [
        _write(Path(folder) / "vocoder.safetensors", lambda path: save_file(tensors, path)),
        _write(Path(folder) / "vocoder.json", lambda path: path.write_text(text, encoding="utf-8")),
    ]


def convert_kmeans(folder: Path, output: Path) -> list[Path]:
    """Every layer of a k-means folder to ours."""
    layers = kmeans_layers(folder)
    return write_kmeans(output, dict(zip(layers, read_kmeans(folder, layers), strict=True)))


def convert_vocoder(folder: Path, output: Path) -> list[Path]:
    """A vocoder folder to ours."""
    return write_vocoder(output, *read_vocoder(folder))


def convert_checkpoint(file: Path, output: Path) -> list[Path]:
    """Write the trained part of a released checkpoint as one of this project's; the frozen parts stay behind."""
    released = read_checkpoint(file)
    model = {f"network.{name}": value for name, value in _independent(released.network).items()}
    checkpoint.save(output, {"model": model, "facts": released.facts})
    return [output]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(argv)
    with report_errors() as outcome:
        for path in options.convert(options.source, options.output):
            with open(path, "rb") as file:
                print(f"wrote {path}  sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}")
    return outcome.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.released",
        description="Public checkpoints of TSELM: turn them into this project's formats.",
    )
    verbs = parser.add_subparsers(required=True, metavar="convert")
    kinds = verbs.add_parser(
        "convert",
        help="turn released files into safetensors and plain checkpoints",
        description="Read released files, run nothing of what is in them, write them in this project's formats, and "
        "print the SHA-256 of what was written.",
    ).add_subparsers(required=True, metavar="{kmeans,vocoder,checkpoint}")
    for name, convert, source, output, text in (
        ("kmeans", convert_kmeans, "FOLDER", "OUT", "FOLDER/*_L<layer>.pt to OUT/kmeans.safetensors"),
        (
            "vocoder",
            convert_vocoder,
            "FOLDER",
            "OUT",
            "FOLDER/hyperparams.yaml and generator.ckpt to OUT/vocoder.json and OUT/vocoder.safetensors",
        ),
        (
            "checkpoint",
            convert_checkpoint,
            "FILE",
            "OUT.pth",
            "a released tselm_l.pth to OUT.pth: the trained network, without the frozen WavLM and vocoder, which keep "
            "their own folders, and without the optimizer",
        ),
    ):
        command = kinds.add_parser(name, help=text, description=f"Convert {text}.")
        command.add_argument("source", type=Path, metavar=source)
        command.add_argument("--output", type=Path, required=True, metavar=output)
        command.set_defaults(convert=convert)
    return parser


def _independent(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies, none a view of another or of a mapped file: a view would be saved with all it is a view of."""
    return {name: value.detach().clone().contiguous() for name, value in tensors.items()}


def _write(path: Path, write: Callable[[Path], object]) -> Path:
    """Write under a temporary name, sync, rename: the file of this name is always a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        readable(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


if __name__ == "__main__":
    sys.exit(main())
