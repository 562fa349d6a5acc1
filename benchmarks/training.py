"""One training step of TSELM, forward, backward and update, against the same step in the plain way in fp32."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import floor
from benchmarks.baseline import PlainTokenizer
from benchmarks.measure import Row, against, matmul_peak, parser, prepare, show, where_time_goes
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
    rows, goes = [], []
    with random_parts(toy=args.toy) as (recipe, paths):
        made = Training(recipe, paths, toy=args.toy, device=device, batch=args.batch)
        for precision in args.precisions:
            step = made.step(precision)
            rows.append(made.row(precision, step, repeats=args.repeats))
            goes.append(f"{precision}: {where_time_goes(step, device=device)}")
            del step
    show(rows, peaks=peaks)
    print("\nwhere the time goes:\n" + "\n".join(goes))
    return 0


class Training:
    """A step of a recipe's training, and the plain way, on the same batch.

    Args:
        recipe, paths: as ``benchmarks.parts`` gives them.
        batch: items.
    """

    def __init__(self, recipe: Path, paths: Sequence[str], *, toy: bool, device: torch.device, batch: int):
        where = dict(text.split("=") for text in paths)
        self.baseline = PlainTokenizer(where["wavlm_path"], where["kmeans_path"], LAYERS[toy], device)
        lengths = {"mixture": 48080, "target": 48080, "enrolment": 64080}
        self.batch = {name: speech(batch, samples).to(device) for name, samples in lengths.items()}
        self._recipe, self._paths, self._device = recipe, paths, device

    def step(self, precision: str) -> Callable[[], int]:
        """What the trainer does in a step."""
        keys = [*self._paths, f"tokenizer_precision={precision}", f"precision={precision}", "log_vocoder=null"]
        self._task = Recipe(self._recipe, overrides=keys).build("task")["task"].to(self._device)
        return our_step(self._task, self.batch, precision, self._device)

    def row(self, precision: str, step: Callable[[], int], *, repeats: int, plain_seconds: float | None = None) -> Row:
        """Of the step that was made last; ``plain_seconds``: of the plain one, if they are known from the same run."""
        plain = plain_seconds or plain_step(self.baseline, self._task.network, self.batch, self._device)
        seconds = against(plain, step, device=self._device, repeats=repeats)
        operations, batch = count(self._task, self.batch), len(self.batch["mixture"])
        audio = batch * self.batch["mixture"].shape[-1] / 16000
        work = f"training step, batch {batch}, {precision}"
        return Row(work, *seconds, operations, precision=precision, audio=audio)


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
