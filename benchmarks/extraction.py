"""Extraction of a mixture, by published chunking and by windows of ours, against one piece at a time, plainly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import baseline, floor
from benchmarks.measure import Row, against, matmul_peak, parser, prepare, show, where_time_goes
from benchmarks.parts import LAYERS, random_parts, speech
from utils.recipe import Recipe


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=12.0, help="of the mixture (%(default)s)")
    options.add_argument(
        "--piece_seconds", type=float, nargs="+", default=[2.0, 8.0, 12.0], help="of aligned chunking (%(default)s)"
    )
    options.add_argument("--only", default="", metavar="TEXT", help="rows whose name holds this, as bf16")
    args = options.parse_args(argv)
    device = prepare(args)
    peaks = {"fp32": matmul_peak(device), "bf16": matmul_peak(device, torch.bfloat16)}
    low = ["tokenizer_precision=bf16", "inference_precision=bf16"]
    variants = {"published chunking, fp32": ["chunking=published"]}
    variants |= {f"aligned, {piece:g} s pieces, fp32": [f"piece_seconds={piece}"] for piece in args.piece_seconds}
    variants |= {
        f"aligned, {piece:g} s pieces, bf16": [f"piece_seconds={piece}", *low] for piece in args.piece_seconds[-1:]
    }
    variants = {name: keys for name, keys in variants.items() if args.only in name}
    rows, notes, goes = [], [], []
    with random_parts(toy=args.toy) as (recipe, paths):
        made = Extracting(recipe, paths, toy=args.toy, device=device, seconds=args.seconds)
        for name, keys in variants.items():
            plain, ours = made.ways(keys)
            rows.append(made.row(name, plain, ours, repeats=args.repeats))
            goes.append(f"{name}: {where_time_goes(ours, device=device)}")
            if "published" in name:
                notes.append(f"published chunking: largest difference {(plain().cpu() - ours()).abs().max():.1e}")
    show(rows, peaks=peaks)
    print("\nwhere the time goes:\n" + "\n".join(goes))
    print("\n" + "\n".join(notes))
    return 0


class Extracting:
    """A recipe's extraction from one mixture, and the plain way.

    Args:
        recipe, paths: as ``benchmarks.parts`` gives them.
        seconds: of the mixture.
    """

    def __init__(self, recipe: Path, paths: Sequence[str], *, toy: bool, device: torch.device, seconds: float):
        where = dict(text.split("=") for text in paths)
        self.tokenizer = baseline.PlainTokenizer(where["wavlm_path"], where["kmeans_path"], LAYERS[toy], device)
        self.mixture, self.enrolment = speech(2, round(16000 * seconds)).to(device).split(1)
        self.seconds = seconds
        self._recipe, self._paths, self._device = recipe, paths, device

    def ways(self, keys: Sequence[str]) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]:
        """The plain way and ours, with these keys of the recipe."""
        torch.manual_seed(0)  # the same random network each time
        made = Recipe(self._recipe, overrides=[*self._paths, *keys]).build("model")["model"]
        model = self._model = made.to(self._device)
        used = self.enrolment[:, : model.regi_length]
        parts = (self.tokenizer, model.network, model.vocoder, self.mixture, used)
        return (
            lambda: baseline.extract(*parts, mix_length=model.mix_length),
            lambda: model.extract(self.mixture, self.enrolment),
        )

    def row(self, name: str, plain: Callable[[], object] | float, ours: Callable[[], object], *, repeats: int) -> Row:
        """Of the ways that were made last; the plain one's seconds, if they are known from the same run."""
        seconds = against(plain, ours, device=self._device, repeats=repeats)
        operations = count(self._model, self.mixture, self.enrolment[:, : self._model.regi_length])
        work, precision = f"extracting {self.seconds:g} s, {name}", self._model.tokenizer.precision
        return Row(work, *seconds, operations, precision=precision, audio=self.seconds)


def count(model, mixture: torch.Tensor, used: torch.Tensor) -> float:
    """Operations of extracting so: each window with its enrolments, the enrolment alone, the network, the vocoder."""
    cut = model.cutting.cut(mixture.shape[-1])
    window, enrolment = cut[0].length, used.shape[-1]
    frames = [model.grid.frames(samples) for samples in (window, enrolment)]
    tokenizer = model.tokenizer
    total = floor.tokenizing(tokenizer, rows=len(cut), samples=window + 2 * enrolment)
    total += floor.tokenizing(tokenizer, rows=1, samples=enrolment)
    total += len(cut) * floor.network(model.network, rows=1, frames=frames[0], enrolment_frames=frames[1])
    kept = sum(piece.kept.stop - piece.kept.start for piece in cut)
    tokens = torch.zeros(1, kept, tokenizer.num_codebooks, dtype=torch.int64, device=mixture.device)
    return total + floor.counted(lambda: model.vocoder.decode(tokens))


if __name__ == "__main__":
    sys.exit(main())
