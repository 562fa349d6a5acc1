"""A SpeechTokenizer of released sizes: encoding and decoding against its layers as they are published, in one run.

The baseline is the plain way: the public order of layers with weight norm computed in each pass, all codebooks by their
distances, one file at a time. Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import nn

from benchmarks.measure import Row, matmul_peak, parser, prepare, show, side_by_side, where_time_goes
from benchmarks.parts import speech
from models.interfaces import Recording
from models.speechtokenizer.architecture import Architecture
from models.speechtokenizer.codec import SpeechTokenizer
from models.speechtokenizer.network import CodecNetwork
from modules.seanet import PaddedConv1d, ResidualLSTM, UpConv1d

RELEASED = Architecture(
    sample_rate=16000, n_filters=64, strides=(8, 5, 4, 2), dimension=1024, semantic_dimension=768, lstm_layers=2,
    bidirectional=True, n_residual_layers=1, residual_kernel_size=3, dilation_base=2, activation="ELU",
    codebook_size=1024, n_q=8,
)  # fmt: skip
TOY = Architecture(
    sample_rate=16000, n_filters=4, strides=(8, 5, 4, 2), dimension=16, semantic_dimension=12, lstm_layers=1,
    bidirectional=True, n_residual_layers=1, residual_kernel_size=3, dilation_base=2, activation="ELU",
    codebook_size=32, n_q=8,
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=5.0, help="of one file (%(default)s)")
    options.add_argument("--files", type=int, default=20, help="short ones in a list (%(default)s)")
    args = options.parse_args(argv)
    device = prepare(args)
    sizes = TOY if args.toy else RELEASED
    codec = SpeechTokenizer(architecture=sizes)
    fill(codec.network)
    first = SpeechTokenizer(architecture=sizes, codebooks=1)
    first.network.load_state_dict(codec.network.state_dict())
    codec, first = codec.to(device), first.to(device)
    plain = Plain(codec.network)
    wav = speech(1, round(sizes.sample_rate * args.seconds)).to(device)
    # Files of 0.3 to 0.7 of the one, no two of one length: what a list of sentences is.
    shares = torch.linspace(0.3, 0.7, args.files)
    files = [wav[0, : int(share * wav.shape[1])] for share in shares]
    recordings = [Recording.of(file.cpu()) for file in files]

    with torch.no_grad():
        tokens = codec.encode(wav)
        of_files = codec.encode_files(recordings)
        encoder, decoder, book = macs(codec.network, wav, tokens)
        total = sum(map(len, files)) / wav.shape[1]
        ways = {
            f"encode 1 x {args.seconds:g} s": (
                lambda: plain.encode(wav), lambda: codec.encode(wav), encoder + sizes.n_q * book,
            ),
            f"decode 1 x {args.seconds:g} s": (lambda: plain.decode(tokens), lambda: codec.decode(tokens), decoder),
            "encode, 1 codebook against all": (lambda: codec.encode(wav), lambda: first.encode(wav), encoder + book),
            f"encode {args.files} files": (
                lambda: [plain.encode(file[None]) for file in files],
                lambda: codec.encode_files(recordings),
                total * (encoder + sizes.n_q * book),
            ),
            f"decode {args.files} files": (
                lambda: [plain.decode(x[None].to(device)) for x in of_files],
                lambda: [list(parts) for parts in codec.signals_of(of_files)],
                total * decoder,
            ),
        }  # fmt: skip
        peaks = {"fp32": matmul_peak(device)}
        rows = []
        for work, (baseline, ours, operations) in ways.items():
            seconds = side_by_side(baseline, ours, device=device, repeats=args.repeats)
            rows.append(Row(work, *seconds, 2 * operations))
        same = (plain.encode(wav) == tokens).float().mean().item()
        difference = (plain.decode(tokens) - codec.decode(tokens)).abs().max().item()
        goes = [f"{work}: {where_time_goes(ours, device=device)}" for work, (_, ours, _) in list(ways.items())[:2]]
    show(rows, peaks=peaks)
    print("\nwhere the time goes:\n" + "\n".join(goes))
    print(f"tokens that are the baseline's: {100 * same:.2f} %; largest difference of the speech: {difference:.1e}")
    return 0


class Plain:
    """The codec as its layers are published."""

    def __init__(self, network: CodecNetwork):
        self.network = network

    def encode(self, wav: torch.Tensor) -> torch.Tensor:
        left, tokens = self.network.encode(wav), []
        for rows in self.network.quantizer.embed:
            flat = left.flatten(0, 1)
            distances = flat.square().sum(1, keepdim=True) - 2 * flat @ rows.T + rows.T.square().sum(0, keepdim=True)
            tokens.append((-distances).max(dim=-1).indices.view(left.shape[:-1]))
            left = left - rows[tokens[-1]]
        return torch.stack(tokens, dim=-1)

    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        books = self.network.quantizer.embed
        return self.network.decode(sum(books[k][tokens[..., k]] for k in range(tokens.shape[-1])))


@torch.no_grad()
def fill(network: CodecNetwork) -> None:
    """Codebooks of the size of what they quantise, so that all of them are used."""
    embed = network.quantizer.embed
    latents = network.encode(speech(1, 32000).to(embed.device))
    embed.normal_().mul_(0.5 * latents.std())


def macs(network: CodecNetwork, wav: torch.Tensor, tokens: torch.Tensor) -> tuple[float, float, float]:
    """Multiplications of the encoder, of the decoder and of one codebook, counted on a pass."""
    counted = {"encoder": 0.0, "decoder": 0.0}

    def count(part: str, layer: nn.Module, output: torch.Tensor) -> None:
        if isinstance(layer, ResidualLSTM):
            weights = [p for name, p in layer.named_parameters() if "weight" in name]
            counted[part] += sum(p.numel() for p in weights) * output.shape[-1]
        elif isinstance(layer, UpConv1d):  # each input frame meets the whole kernel
            counted[part] += layer.convtr.weight.numel() * output.shape[-1] / layer.stride
        else:
            counted[part] += layer.conv.weight.numel() * output.shape[-1]

    hooks = [
        layer.register_forward_hook(lambda layer, _, output, part=part: count(part, layer, output))
        for part in counted
        for layer in getattr(network, part).modules()
        if isinstance(layer, PaddedConv1d | UpConv1d | ResidualLSTM)
    ]
    network.decode(network.quantizer.dequantise(tokens))
    network.encode(wav)
    for hook in hooks:
        hook.remove()
    rows: Sequence[int] = network.quantizer.embed.shape[1:]
    return counted["encoder"], counted["decoder"], float(tokens.shape[1] * rows[0] * rows[1])


if __name__ == "__main__":
    sys.exit(main())
