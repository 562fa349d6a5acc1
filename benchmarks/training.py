"""One training step of TSELM, forward, backward and update, against the same step in the plain way in fp32."""

from __future__ import annotations

import sys

import torch

from benchmarks.baseline import PlainTokenizer
from benchmarks.measure import Row, matmul_peak, parser, prepare, show, side_by_side
from benchmarks.parts import LAYERS, random_parts, speech
from modules.losses import token_cross_entropy
from utils.descent import Descent
from utils.progress import Averages
from utils.recipe import Recipe


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--batch", type=int, default=4, help="items (%(default)s)")
    options.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], help="(%(default)s)")
    args = options.parse_args(argv)
    device = prepare(args)
    peaks = {"fp32": matmul_peak(device), "bf16": matmul_peak(device, torch.bfloat16)}
    lengths = {"mixture": 48080, "target": 48080, "enrolment": 64080}
    batch = {name: speech(args.batch, samples).to(device) for name, samples in lengths.items()}
    rows = []
    with random_parts(toy=args.toy) as (recipe, paths):
        where = dict(text.split("=") for text in paths)
        baseline = PlainTokenizer(where["wavlm_path"], where["kmeans_path"], LAYERS[args.toy], device)
        for precision in args.precisions:
            keys = [*paths, f"tokenizer_precision={precision}", f"precision={precision}", "log_vocoder=null"]
            task = Recipe(recipe, overrides=keys).build("task")["task"].to(device)
            step, plain = our_step(task, batch, precision, device), plain_step(baseline, task.network, batch, device)
            seconds = side_by_side(plain, step, device=device, repeats=args.repeats)
            rows.append(Row(f"training step, batch {args.batch}, {precision}", *seconds))
            del task, step, plain
    show(rows, peaks=peaks)
    return 0


def our_step(task, batch, precision: str, device: torch.device):
    """What the trainer does in a step."""
    descent = Descent(task.optimizers(), device, precision=precision)
    averages = Averages()
    task.train()
    return lambda: descent.step(task, task.networks(), iter([batch]), averages)


def plain_step(tokenizer: PlainTokenizer, network: torch.nn.Module, batch, device: torch.device):
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-5, betas=(0.9, 0.98))

    def step() -> None:
        logits = network(tokenizer.mixture(batch["mixture"], batch["enrolment"]), tokenizer(batch["enrolment"]))
        loss = token_cross_entropy(logits, tokenizer(batch["target"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    sys.exit(main())
