"""Speech to tokens: seconds for 11 s of it, against all hidden states of transformers' WavLM and scikit-learn."""

from __future__ import annotations

import sys

import torch

from benchmarks import floor
from benchmarks.baseline import PlainTokenizer
from benchmarks.measure import Row, matmul_peak, parser, prepare, show, side_by_side, where_time_goes
from benchmarks.parts import LAYERS, random_parts, speech
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
    wav = speech(args.batch, round(16000 * args.seconds)).to(device)
    with random_parts(toy=args.toy) as (recipe, paths):
        where = dict(text.split("=") for text in paths)
        baseline = PlainTokenizer(where["wavlm_path"], where["kmeans_path"], LAYERS[args.toy], device)
        keys = [*paths, f"tokenizer_compiled={args.compiled}"]
        recipes = {name: Recipe(recipe, overrides=[*keys, f"tokenizer_precision={name}"]) for name in precisions}
        made = {name: recipe.build("tokenizer")["tokenizer"].to(device) for name, recipe in recipes.items()}
        operations = floor.tokenizing(made["fp32"], rows=args.batch, samples=wav.shape[-1])
        rows, tokens = [], {name: tokenizer.encode(wav) for name, tokenizer in made.items()}
        for name, tokenizer in made.items():
            plain, ours = side_by_side(
                lambda: baseline(wav), lambda t=tokenizer: t.encode(wav), device=device, repeats=args.repeats
            )
            changed = (tokens[name] != tokens["fp32"]).float().mean(dim=(0, 1)) * 100
            note = "" if name == "fp32" else "changed: " + ", ".join(f"{share:.1f} %" for share in changed.tolist())
            work = f"tokenising {args.batch} x {args.seconds:g} s, {name}"
            rows.append(Row(work, plain, ours, operations, note))
        goes = [f"{name}: {where_time_goes(lambda t=made[name]: t.encode(wav), device=device)}" for name in made]
        read = floor.weights(made["fp32"])
        same = (baseline(wav) == tokens["fp32"]).float().mean().item()
    show(rows, peaks=peaks)
    print("\nwhere the time goes:\n" + "\n".join(goes))
    print(f"weights that are read: {read / 2**20:.0f} MiB in fp32")
    print(f"tokens of fp32 that are the baseline's: {100 * same:.2f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
