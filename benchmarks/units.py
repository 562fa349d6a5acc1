"""Units of speech: the search against the published way of it, and against the encoder whose features it quantises.

The published way looks at each frame as the end of a segment and at each frame before it as the beginning, which takes
O(N^2 K); ours takes O(N K). Both include the distances. Features are random frames that move on now and then, so that
segments have the lengths of speech; the encoder is WavLM-Large up to layer 11, with random weights.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.measure import Row, matmul_peak, once, parser, prepare, show, side_by_side
from benchmarks.parts import speech
from models.wavlm import WavLM, quiet_transformers
from modules.dpdp import cost, dpdp

LAYER, TOY_LAYER = 11, 2
NEIGHBORS = 0.05


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--frames", type=int, help="N (1500, which are 30 s; toy: 100)")
    options.add_argument("--clusters", type=int, help="K (1000; toy: 40)")
    args = options.parse_args(argv)
    device = prepare(args)
    frames = args.frames or (100 if args.toy else 1500)
    clusters = args.clusters or (40 if args.toy else 1000)
    dim = 64 if args.toy else 1024
    features, codebook = (x.to(device) for x in moving(2 * frames, clusters, dim))
    half, lmbda = features[:, :frames], float(2 * dim)

    def search(x: torch.Tensor, neighbors: float | None = None) -> torch.Tensor:
        return dpdp(x, codebook, lmbda=lmbda, num_neighbors=neighbors)[0]

    operations = 2.0 * frames * clusters * dim  # of the distances, which is nearly all
    rows = []
    for work, neighbors in ((f"search, {frames} frames", None), (f"the same, {NEIGHBORS:.0%} of the units", NEIGHBORS)):
        seconds = side_by_side(
            lambda neighbors=neighbors: published(half[0], codebook, lmbda=lmbda, num_neighbors=neighbors),
            lambda neighbors=neighbors: search(half, neighbors),
            device=device, repeats=args.repeats,
        )  # fmt: skip
        rows.append(Row(work, *seconds, operations))
    one, two = side_by_side(lambda: search(half), lambda: search(features), device=device, repeats=args.repeats)
    rows.append(Row(f"search, {frames} frames against {2 * frames}", one, two, 2 * operations))
    theirs, ours = published(half[0], codebook, lmbda=lmbda), search(half)[0].cpu()
    costs = [cost(half[0], codebook, units.to(device), lmbda=lmbda) for units in (theirs, ours)]
    with encoder(toy=args.toy) as wavlm:
        wavlm, wav = wavlm.to(device), speech(1, wavlm.grid.samples(frames)).to(device)
        wavlm(wav)
        heard = statistics.median(once(lambda: wavlm(wav), device=device) for _ in range(args.repeats))
    rows.append(Row(f"WavLM to layer {TOY_LAYER if args.toy else LAYER} against the search", heard, rows[0].ours))
    show(rows, peaks={"fp32": matmul_peak(device)})
    same = (theirs == ours).float().mean().item()
    print(
        f"\nunits that are the baseline's: {100 * same:.2f} %; the costs differ by {abs(costs[0] - costs[1]):.1e} of "
        f"{abs(costs[0]):.1e}; {int((ours[1:] != ours[:-1]).sum()) + 1} segments"
    )
    share = rows[0].ours / heard
    print(f"twice the frames take {two / one:.2f} times as long; the search takes {share:.1%} of WavLM's time")
    return 0


def moving(frames: int, clusters: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames [1, N, D] that are noisy centres, each for some time, and the centres [K, D]."""
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn(clusters, dim, generator=generator)
    changes = torch.rand(frames, generator=generator) < 0.4
    chosen = torch.randint(clusters, (frames,), generator=generator)[changes.cumsum(0)]
    return (codebook[chosen] + torch.randn(frames, dim, generator=generator))[None], codebook


def published(
    x: torch.Tensor, codebook: torch.Tensor, *, lmbda: float, num_neighbors: float | None = None
) -> torch.Tensor:
    """The units [N] of frames [N, D], by all pairs of the first and the last frame of a segment."""
    distances = torch.cdist(x, codebook).square()
    if num_neighbors is not None:
        near = distances.topk(max(1, int(num_neighbors * len(codebook))), largest=False)
        distances = torch.full_like(distances, 1e9).scatter(1, near.indices, near.values)
    sums = torch.cat(
        [distances.new_zeros(1, len(codebook)), distances.double().cumsum(0).float()]
    )  # of frames before t
    least = sums.new_zeros(len(sums))  # of the first t frames
    first = torch.zeros(len(sums), dtype=torch.int64)  # where the last segment of these begins
    unit = torch.zeros(len(sums), dtype=torch.int64)
    for end in range(1, len(sums)):
        starts = torch.arange(end, device=x.device)
        segment, units = (sums[end] - sums[:end]).min(dim=1)
        total = least[:end] + segment - lmbda * (end - starts - 1)
        least[end], first[end] = total.min(dim=0)
        unit[end] = units[first[end]]
    found = torch.zeros(len(x), dtype=torch.int64)
    end = len(x)
    while end:
        found[first[end] : end] = unit[end]
        end = int(first[end])
    return found


@contextmanager
def encoder(*, toy: bool) -> Iterator[WavLM]:
    """WavLM up to the layer that units are of."""
    from transformers import WavLMConfig, WavLMModel

    layer = TOY_LAYER if toy else LAYER
    sizes = dict(hidden_size=64, num_attention_heads=4, intermediate_size=128, conv_dim=[64] * 7,
                 num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4) if toy else dict(
                 hidden_size=1024, num_attention_heads=16, intermediate_size=4096)  # fmt: skip
    config = WavLMConfig(feat_extract_norm="layer", do_stable_layer_norm=True, num_hidden_layers=layer, **sizes)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        with quiet_transformers():
            WavLMModel(config).save_pretrained(folder)
        yield WavLM(folder, layers=[layer], normalize=False, final_norm=False)


if __name__ == "__main__":
    sys.exit(main())
