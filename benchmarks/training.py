"""One training step of TSELM, forward, backward and update, against the same step in the plain way in fp32."""

from __future__ import annotations

import sys

import torch

from benchmarks import floor
from benchmarks.baseline import PlainTokenizer
from benchmarks.measure import Row, matmul_peak, parser, prepare, show, side_by_side, where_time_goes
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
    rows, goes = [], []
    with random_parts(toy=args.toy) as (recipe, paths):
        where = dict(text.split("=") for text in paths)
        baseline = PlainTokenizer(where["wavlm_path"], where["kmeans_path"], LAYERS[args.toy], device)
        for precision in args.precisions:
            keys = [*paths, f"tokenizer_precision={precision}", f"precision={precision}", "log_vocoder=null"]
            task = Recipe(recipe, overrides=keys).build("task")["task"].to(device)
            step, plain = our_step(task, batch, precision, device), plain_step(baseline, task.network, batch, device)
            seconds = side_by_side(plain, step, device=device, repeats=args.repeats)
            operations = count(task, batch)
            rows.append(Row(f"training step, batch {args.batch}, {precision}", *seconds, operations))
            goes.append(f"{precision}: {where_time_goes(step, device=device)}")
            del task, step, plain
    show(rows, peaks=peaks)
    print("\nwhere the time goes:\n" + "\n".join(goes))
    return 0


def count(task, batch) -> float:
    """Operations of a step: the tokenizer's three passes, and the network forward, and backward for twice as much."""
    samples = {name: wav.shape[-1] for name, wav in batch.items()}
    heard = (samples["mixture"] + 2 * samples["enrolment"], samples["enrolment"], samples["target"])
    rows, frames = len(batch["mixture"]), task.tokenizer.grid.frames
    sizes = {"frames": frames(samples["mixture"]), "enrolment_frames": frames(samples["enrolment"])}
    tokenizing = sum(floor.tokenizing(task.tokenizer, rows=rows, samples=length) for length in heard)
    return tokenizing + 3 * floor.network(task.network, rows=rows, **sizes)


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
