"""Language models of units: generation with a memory, all sequences together, against the plain way.

The plain way does one sequence after another, and computes the whole prefix for each token. Weights are random, and
sequences are kept from ending, so that both make the same number of tokens.
"""

from __future__ import annotations

import sys

import torch

from benchmarks.measure import Row, matmul_peak, parser, prepare, show, side_by_side
from models.dpslm.acoustic import AcousticModel
from models.dpslm.acoustic_network import AcousticNetwork
from models.dpslm.unit_lm import UnitLanguageModel
from models.dpslm.unit_lm_network import BOS, UnitNetwork
from models.dpslm.vocabulary import EOP
from modules.rotary_decoder import RotaryDecoder

# A quarter of the published width and depth: the plain way of the whole would take half an hour on two cores.
SIZES = {"d_model": 256, "num_layers": 6, "num_heads": 4, "num_kv_heads": 4, "head_dim": 64, "d_ffn": 1024}
TOY = {"d_model": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2, "head_dim": 16, "d_ffn": 48}
CLUSTERS, CODES, PROMPT = 500, 4096, 20


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--tokens", type=int, help="that are generated for each sequence (400; toy: 24)")
    options.add_argument("--batch", type=int, help="sequences (8; toy: 2)")
    args = options.parse_args(argv)
    device = prepare(args)
    tokens, batch = args.tokens or (24 if args.toy else 400), args.batch or (2 if args.toy else 8)
    sizes = TOY if args.toy else SIZES
    torch.manual_seed(0)
    prompts = [torch.arange(PROMPT) * (row + 2) % CLUSTERS for row in range(batch)]
    rows = [
        unit_lm(sizes, prompts, tokens, device=device, repeats=args.repeats),
        acoustic(sizes, prompts, tokens, device=device, repeats=args.repeats),
    ]
    print(f"{batch} sequences, networks of {sizes}, {CLUSTERS} units and {CODES} codes")
    show(rows, peaks={"fp32": matmul_peak(device)})
    return 0


@torch.no_grad()
def unit_lm(sizes: dict, prompts: list[torch.Tensor], tokens: int, *, device: torch.device, repeats: int) -> Row:
    network = UnitNetwork(num_clusters=CLUSTERS, dropout=0.0, **sizes).to(device)
    model = UnitLanguageModel(network=network, max_units=tokens, min_units=tokens, temperature=0.0).to(device)

    def plain() -> list[list[int]]:
        return [
            greedy(network, [BOS, *(units + 1).tolist()], tokens, closed=[BOS], no_repeat=True) for units in prompts
        ]

    def ours() -> list[list[int]]:
        return [(new + 1).tolist() for new in model.generate(prompts, seeds=[0] * len(prompts))]

    require_same(plain(), ours())
    theirs, mine = side_by_side(plain, ours, device=device, repeats=repeats)
    work = f"unit LM, {tokens} units more"
    return Row(work, theirs, mine, operations(network, len(prompts), len(prompts[0]) + 1, tokens))


@torch.no_grad()
def acoustic(sizes: dict, prompts: list[torch.Tensor], tokens: int, *, device: torch.device, repeats: int) -> Row:
    """Each unit has as many codes, since EOP is never the likeliest."""
    network = AcousticNetwork(num_clusters=CLUSTERS, num_codes=CODES, **sizes).to(device)
    each = max(1, tokens // PROMPT - 2)  # codes of a unit; with its EOP and itself there are ``tokens`` in all
    model = AcousticModel(
        network=network, num_clusters=CLUSTERS, num_codes=CODES, temperature=0.0, max_codec_tokens_per_phone=each
    ).to(device)
    v = model.vocabulary
    network.output.bias[v.special(EOP)] = -1e4
    closed = [i for i in range(4 + CLUSTERS) if i != v.special(EOP)]

    def plain() -> list[list[int]]:
        found = []
        for units in prompts:
            ids = [*v.of_units(units.to(device)).tolist(), v.special(1)]
            codes: list[int] = []
            for unit in v.of_units(units.to(device)).tolist():
                new = greedy(network, [*ids, unit], each, closed=closed)
                codes += new
                ids += [unit, *new, v.special(EOP)]
            found.append(codes)
        return found

    def ours() -> list[list[int]]:
        said = model.generate(prompts, seeds=[0] * len(prompts))
        return [v.of_codes(codes.to(device)).tolist() for codes in said]

    require_same(plain(), ours())
    theirs, mine = side_by_side(plain, ours, device=device, repeats=repeats)
    work = f"ELLA-V, {PROMPT} units of {each} codes"
    return Row(work, theirs, mine, operations(network, len(prompts), PROMPT + 1, PROMPT * (each + 2)))


def greedy(
    network: RotaryDecoder, ids: list[int], tokens: int, *, closed: list[int], no_repeat: bool = False
) -> list[int]:
    """The likeliest tokens after ``ids``, the whole prefix computed for each."""
    device, new = network.output.weight.device, []
    for _ in range(tokens):
        logits = network(torch.tensor([ids + new], device=device))[0, -1]
        logits[closed] = -torch.inf
        if no_repeat:
            logits[(ids + new)[-1]] = -torch.inf
        new.append(int(logits.argmax()))
    return new


def require_same(theirs: list[list[int]], ours: list[list[int]]) -> None:
    """Raise a RuntimeError if the two ways made different tokens."""
    if theirs != ours:
        raise RuntimeError("the two ways made different tokens: rounding decides here, try another seed")


def operations(network: RotaryDecoder, batch: int, prompt: int, tokens: int) -> float:
    """Of the products with weights, each position once; the logits of new tokens alone."""
    logits = network.output.weight.numel()
    weights = (
        sum(p.numel() for p in network.parameters() if p.ndim == 2) - logits - network.tok_embeddings.weight.numel()
    )
    return 2.0 * batch * ((prompt + tokens) * weights + tokens * logits)


if __name__ == "__main__":
    sys.exit(main())
