"""Speech to tokens: seconds for 11 s of it, against all hidden states of transformers' WavLM and scikit-learn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import floor
from benchmarks.baseline import PlainTokenizer
from benchmarks.measure import Row, against, matmul_peak, parser, prepare, show, where_time_goes
from benchmarks.parts import LAYERS, random_parts, speech
from models.ssl_tokenizer import SSLTokenizer
from utils.recipe import Recipe


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=11.0, help="of each row (%(default)s)")
    options.add_argument("--batch", type=int, default=1, help="rows (%(default)s)")
    options.add_argument("--compiled", action="store_true", help="by torch.compile (minutes)")
    args = options.parse_args(argv)
    device = prepare(args)
    precisions = ["fp32", "bf16"] + (["tf32", "fp16"] if device.type == "cuda" else [])
    peaks = {"fp32": matmul_peak(device), "bf16": matmul_peak(device, torch.bfloat16)}
    with random_parts(toy=args.toy) as (recipe, paths):
        made = Tokenizing(recipe, paths, toy=args.toy, device=device, batch=args.batch, seconds=args.seconds)
        measured = [made.row(name, compiled=args.compiled, repeats=args.repeats) for name in precisions]
        ways = {name: made.way(name, compiled=args.compiled) for name in precisions}
        goes = [f"{name}: {where_time_goes(way, device=device)}" for name, way in ways.items()]
        read, same = floor.weights(made.tokenizer("fp32")), made.same()
    show(measured, peaks=peaks)
    print("\nwhere the time goes:\n" + "\n".join(goes))
    print(f"weights that are read: {read / 2**20:.0f} MiB in fp32")
    print(f"tokens of fp32 that are the baseline's: {100 * same:.2f} %")
    return 0


class Tokenizing:
    """The tokenizer of a recipe in several precisions, and the plain way, on the same speech.

    Args:
        recipe, paths: as ``benchmarks.parts`` gives them.
        batch, seconds: of the speech.
    """

    def __init__(
        self, recipe: Path, paths: Sequence[str], *, toy: bool, device: torch.device, batch: int, seconds: float
    ):
        where = dict(text.split("=") for text in paths)
        self.baseline = PlainTokenizer(where["wavlm_path"], where["kmeans_path"], LAYERS[toy], device)
        self.wav = speech(batch, round(16000 * seconds)).to(device)
        self.seconds = seconds
        self._recipe, self._paths, self._device = recipe, paths, device
        self._made: dict[tuple[str, bool], SSLTokenizer] = {}

    def tokenizer(self, precision: str, *, compiled: bool = False) -> SSLTokenizer:
        if (precision, compiled) not in self._made:
            keys = [*self._paths, f"tokenizer_compiled={compiled}", f"tokenizer_precision={precision}"]
            made = Recipe(self._recipe, overrides=keys).build("tokenizer")["tokenizer"]
            self._made[precision, compiled] = made.to(self._device)
        return self._made[precision, compiled]

    def way(self, precision: str, *, compiled: bool = False) -> Callable[[], torch.Tensor]:
        tokenizer = self.tokenizer(precision, compiled=compiled)
        return lambda: tokenizer.encode(self.wav)

    def row(self, precision: str, *, compiled: bool = False, repeats: int, plain_seconds: float | None = None) -> Row:
        """``plain_seconds``: of the plain way, if they are known from another row of the same run."""
        plain = (lambda: self.baseline(self.wav)) if plain_seconds is None else plain_seconds
        way = self.way(precision, compiled=compiled)
        plain, ours = against(plain, way, device=self._device, repeats=repeats)
        fp32, batch = self.way("fp32")(), len(self.wav)
        changed = (way() != fp32).float().mean(dim=(0, 1)) * 100
        note = "" if precision == "fp32" else "changed: " + ", ".join(f"{share:.1f} %" for share in changed.tolist())
        work = f"tokenising {batch} x {self.seconds:g} s, {precision}" + ", compiled" * compiled
        operations = floor.tokenizing(self.tokenizer("fp32"), rows=batch, samples=self.wav.shape[-1])
        return Row(work, plain, ours, operations, note, precision=precision, audio=batch * self.seconds)

    def same(self) -> float:
        """The share of the tokens in fp32 that are the plain way's."""
        return (self.baseline(self.wav) == self.way("fp32")()).float().mean().item()


if __name__ == "__main__":
    sys.exit(main())
