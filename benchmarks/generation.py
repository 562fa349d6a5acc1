"""Generation by both language models of DP-SLM: in batches, with what was fed kept, against the plain way.

The plain way: one sequence after the other, and at each step the network hears the whole prefix; of its positions only
the last one's logits are computed. Weights are random: speed does not depend on them, but what is generated does, so no
sequence ends before ``--tokens``. The size is that of a small model; ``--published`` takes the published one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks import floor
from benchmarks.measure import Row, against, bandwidth, matmul_peak, once, parser, prepare, show, where_time_goes
from models.dpslm.acoustic import AcousticModel
from models.dpslm.acoustic_network import AcousticNetwork
from models.dpslm.unit_lm import UnitLanguageModel
from models.dpslm.unit_lm_network import BOS, UnitNetwork
from models.dpslm.vocabulary import BOS as BEGIN
from models.dpslm.vocabulary import EOP
from modules.rotary_decoder import RotaryDecoder
from modules.sampling import Draws, choose

SIZES = {
    "toy": {"d_model": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 4, "head_dim": 8, "d_ffn": 64},
    "small": {"d_model": 256, "num_layers": 4, "num_heads": 4, "num_kv_heads": 4, "head_dim": 64, "d_ffn": 1024},
    "published": {
        "d_model": 1024, "num_layers": 12, "num_heads": 16, "num_kv_heads": 16, "head_dim": 64, "d_ffn": 4096,
    },
}  # fmt: skip
CLUSTERS, CODES, MOST_CODES = 500, 4096, 10
SAMPLING = {"temperature": 1.0, "top_p": 0.8}


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--tokens", type=int, default=400, help="of a sequence (%(default)s)")
    options.add_argument("--batch", type=int, default=8, help="sequences (%(default)s)")
    options.add_argument("--prompt", type=int, default=20, help="units before a continuation (%(default)s)")
    options.add_argument("--published", action="store_true", help="the published size (minutes for each 100 tokens)")
    args = options.parse_args(argv)
    device = prepare(args)
    name = "toy" if args.toy else "published" if args.published else "small"
    peaks, speed = {"fp32": matmul_peak(device)}, bandwidth(device)
    rows, told = [], []
    for what, make in (("unit LM", Continuing), ("ELLA-V", Speaking)):
        job = make(SIZES[name], args, device)
        made: dict[str, list[Tensor]] = {}

        def plain(job=job, made=made) -> None:
            made["plain"] = job.plain()

        def ours(job=job, made=made) -> None:
            made["ours"] = job.ours()

        with torch.no_grad():
            plain_seconds = once(plain, device=device)
            _, seconds = against(plain_seconds, ours, device=device, repeats=args.repeats)
            operations = floor.counted(job.ours)
        steps = args.batch * args.tokens / seconds
        rows.append(
            Row(f"{what}, {args.batch} x {args.tokens}", plain_seconds, seconds, operations, f"{steps:.0f} tokens/s")
        )
        read = floor.weights(job.network) * args.tokens
        told.append(f"{what}: {where_time_goes(job.ours, device=device, parts=8)}")
        told.append(
            f"{what}: {1e3 * seconds / args.tokens:.2f} ms a step; weights of {floor.weights(job.network) / 2**20:.0f} "
            f"MiB are read at {read / seconds / 1e9:.1f} GB/s, of {speed / 1e9:.1f} that the memory does; tokens that "
            f"are the plain way's: {100 * same(made['plain'], made['ours']):.2f} %"
        )
    show(rows, peaks=peaks)
    sizes = ", ".join(f"{key} {value}" for key, value in SIZES[name].items())
    print(f"\nsize: {sizes}; K = {CLUSTERS}, C = {CODES}; random weights\nwhere the time goes:\n" + "\n".join(told))
    return 0


class Continuing:
    """The unit language model goes on from prompts."""

    def __init__(self, sizes: dict[str, int], args: argparse.Namespace, device: torch.device):
        self.network = UnitNetwork(num_clusters=CLUSTERS, **sizes)
        self.tokens, self.seeds = args.tokens, list(range(args.batch))
        self.model = UnitLanguageModel(
            network=self.network, max_units=args.tokens, min_units=args.tokens, **SAMPLING
        ).to(device)
        self.prompts = walks(args.batch, args.prompt)

    def ours(self) -> list[Tensor]:
        return self.model.generate(self.prompts, seeds=self.seeds)

    def plain(self) -> list[Tensor]:
        return [self._one(units, seed) for units, seed in zip(self.prompts, self.seeds, strict=True)]

    def _one(self, units: Tensor, seed: int) -> Tensor:
        draws, ids = Draws([seed]), [BOS, *(units + 1).tolist()]
        for step in range(self.tokens):
            logits = last_logits(self.network, ids)
            logits[:, [BOS, ids[-1]]] = -torch.inf
            ids.append(drawn(logits, draws, step))
        return torch.tensor(ids[1 + len(units) :]) - 1


class Speaking:
    """ELLA-V says units, up to so many tokens."""

    def __init__(self, sizes: dict[str, int], args: argparse.Namespace, device: torch.device):
        self.network = AcousticNetwork(num_clusters=CLUSTERS, num_codes=CODES, **sizes)
        self.tokens, self.seeds = args.tokens, list(range(args.batch))
        self.model = AcousticModel(
            network=self.network, num_clusters=CLUSTERS, num_codes=CODES, max_tokens=args.tokens,
            max_codec_tokens_per_phone=MOST_CODES, **SAMPLING,
        ).to(device)  # fmt: skip
        self.units = walks(args.batch, args.tokens // 2 + 1)  # at least two tokens each, so that all cannot be said

    def ours(self) -> list[Tensor]:
        return self.model.generate(self.units, seeds=self.seeds)

    def plain(self) -> list[Tensor]:
        return [self._one(units, seed) for units, seed in zip(self.units, self.seeds, strict=True)]

    def _one(self, units: Tensor, seed: int) -> Tensor:
        vocabulary, draws, codes, of_unit = self.model.vocabulary, Draws([seed]), [], 0
        waiting, eop = vocabulary.of_units(units.to(vocabulary.ids.device)).tolist(), vocabulary.special(EOP)
        allowed = torch.zeros(vocabulary.size, dtype=torch.bool, device=vocabulary.ids.device)
        allowed[vocabulary.ids[4 + CLUSTERS :]] = True
        allowed[eop] = True
        ids = [*waiting, vocabulary.special(BEGIN), waiting.pop(0)]
        for step in range(self.tokens):
            if ids[-1] == eop:
                ids.append(waiting.pop(0))
                of_unit = 0
                continue
            if of_unit == MOST_CODES:
                ids.append(eop)
                continue
            logits = last_logits(self.network, ids).masked_fill(~allowed, -torch.inf)
            ids.append(drawn(logits, draws, step))
            if ids[-1] != eop:
                codes.append(int(vocabulary.symbols[ids[-1]]) - 4 - CLUSTERS)
                of_unit += 1
        return torch.tensor(codes)


def last_logits(network: RotaryDecoder, ids: Sequence[int]) -> Tensor:
    """[1, V] behind the last of these ids."""
    device = network.output.weight.device
    where = torch.zeros(1, len(ids), dtype=torch.bool, device=device)
    where[:, -1] = True
    return network(torch.tensor([ids], device=device), where)


def drawn(logits: Tensor, draws: Draws, step: int) -> int:
    numbers = torch.from_numpy(draws.at([0], [step])).to(logits.device)
    return int(choose(logits, numbers, **SAMPLING))


def walks(rows: int, length: int) -> list[Tensor]:
    """Units without repeats."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(1, CLUSTERS, (rows, length), generator=generator)
    return list(steps.cumsum(dim=1) % CLUSTERS)


def same(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The share of the tokens that are equal."""
    equal = sum(int((a == b).sum()) for a, b in zip(first, second, strict=True) if a.shape == b.shape)
    return equal / sum(map(len, first))


if __name__ == "__main__":
    sys.exit(main())
