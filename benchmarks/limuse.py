"""A LiMuSE of published sizes: extraction and a step of training against the plain way, in one run.

The plain way is the published order: what a group and the mean of all have is concatenated, and all blocks of a
recording are computed together. Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch

from benchmarks.measure import Row, matmul_peak, parser, prepare, show, side_by_side, where_time_goes
from models.limuse import blocks
from models.limuse.graph import example
from models.limuse.network import LiMuSE
from models.limuse.report import multiplications
from modules.si_sdr import si_sdr
from utils.machine import keep_freed_memory

TOY = {"num_filters": 16, "context_hidden": 16, "groups": 4, "layers": 2, "audio_repeats": 1, "context_layers": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "K=16": {}, "K=32": {"groups": 32}, "K=16, no codec": {"context_codec": False}, "K=16, 3 bits": {"quantised": True},
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=3.0, help="of a recording (%(default)s)")
    options.add_argument("--batch", type=int, default=2, help="clips of a step of training (%(default)s)")
    args = options.parse_args(argv)
    device, rows, off, goes = prepare(args), [], 0.0, []
    keep_freed_memory()  # as train.py does; else both ways spend half of a step on pages
    for name, values in VARIANTS.items():
        values = {**TOY, **values, "groups": 4} if args.toy else values
        network = LiMuSE(**values).to(device).eval()
        samples = round(16000 * args.seconds)
        inputs = {key: x.to(device) for key, x in example(network, samples).items()}
        operations = 2.0 * multiplications(network, seconds=args.seconds)[0]
        clips = {key: x.repeat(args.batch, *[1] * (x.ndim - 1)) for key, x in inputs.items()}
        train = step(network, clips)
        used = copy.deepcopy(network)
        used.harden()
        extract = extraction(used, inputs)
        for work, run, times in ((f"extract {args.seconds:g} s", extract, 1), ("train a clip", train, 3 * args.batch)):
            seconds = side_by_side(plainly(run), run, device=device, repeats=args.repeats)
            audio = args.seconds * (1 if times == 1 else args.batch)
            rows.append(Row(f"{name}: {work}", *seconds, times * operations, audio=audio))
        if network.activation_bits is None:
            off = max(off, float((plainly(extract)() - extract()).abs().max() / extract().abs().max()))
        goes.append(f"{name}: {where_time_goes(extract, device=device)}")
    show(rows, peaks={"fp32": matmul_peak(device)})
    print("\nwhere the time goes:\n" + "\n".join(goes))
    print(f"largest difference from the baseline, of the peak: {off:.1e}")
    return 0


def extraction(network: LiMuSE, inputs: dict[str, torch.Tensor]) -> Callable[[], torch.Tensor]:
    """What extracts, with weights that are hard once for all."""

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return network(**inputs)

    return run


def step(network: LiMuSE, inputs: dict[str, torch.Tensor]) -> Callable[[], None]:
    """Forward and backward pass of clips."""

    def run() -> None:
        network.train()
        network.zero_grad(set_to_none=True)
        (-si_sdr(network(**inputs), inputs["mixture"][:, 0]).sum()).backward()

    return run


def plainly(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same in the plain way."""

    def plain() -> Any:
        with _plain_way():
            return run()

    return plain


@contextlib.contextmanager
def _plain_way() -> Iterator[None]:
    def concatenated(layer: blocks.SharedLinear, x: torch.Tensor, shared: torch.Tensor | None = None) -> torch.Tensor:
        both = x if shared is None else torch.cat([x, shared[:, None].expand(-1, x.shape[1], -1, -1)], dim=2)
        made = torch.nn.functional.conv1d(both.flatten(0, 1), layer.weight_in_use[..., None], layer.bias)
        return made.unflatten(0, x.shape[:2])

    with mock.patch.object(blocks, "TOGETHER", 10**9), mock.patch.object(blocks.SharedLinear, "forward", concatenated):
        yield


if __name__ == "__main__":
    sys.exit(main())
