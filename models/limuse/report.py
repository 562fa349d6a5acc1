"""What a LiMuSE costs: parameters, bytes, and multiplications, without weights, data or arithmetic.

python -m models.limuse.report --config_path config/limuse.yaml --override groups=32
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from models.limuse.blocks import Linear
from models.limuse.network import LiMuSE
from utils.errors import refuse_empty, report_errors
from utils.recipe import Recipe

SAMPLE_RATE = 16000
FACE_HOP = 640


def costs(network: LiMuSE, *, seconds: float = 3.0) -> dict[str, int]:
    """What a network costs, and what it takes for so many seconds.

    ``macs`` are products of weights in convolutions and linear layers, of the transposed convolution for each frame
    that it reads. ``macs_published`` is the count of the published table: one more for each output of a layer with
    bias and of a PReLU, and the transposed convolution for each sample that it writes.

    Args:
        network: on torch's meta device, or anywhere: its values do not matter.

    Returns:
        parameters, quantised_parameters, quantised_tensors, size_bytes, macs, macs_published.
    """
    macs, published = multiplications(network, seconds=seconds)
    quantiser = network.quantiser
    counts = {name: p.numel() for name, p in network.named_parameters() if not name.startswith("quantiser.")}
    parameters = sum(counts.values())
    quantised = sum(counts[name] for name in network.quantised_layers()) if quantiser is not None else 0
    tensors = len(network.quantised_layers()) if quantiser is not None else 0
    bits = 32 * (parameters - quantised + 2 * tensors) + quantised * (network.weight_bits or 0)
    return {
        "parameters": parameters,
        "quantised_parameters": quantised,
        "quantised_tensors": tensors,
        "size_bytes": -(-bits // 8),
        "macs": macs,
        "macs_published": published,
    }


def multiplications(network: LiMuSE, *, seconds: float) -> tuple[int, int]:
    """``macs`` and ``macs_published`` of so many seconds; see ``costs``."""
    samples = round(seconds * SAMPLE_RATE)
    if samples < 1:
        raise ValueError(f"--seconds must be above 0, got {seconds}")
    found = {"plain": 0, "published": 0}

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(layer, nn.PReLU):
            found["published"] += output.numel()
            return
        if isinstance(layer, nn.ConvTranspose1d):
            each = layer.weight[0].numel() * layer.in_channels
            plain, published = each * inputs[0].shape[-1], each * output.shape[-1]
        else:
            # [B, channels, F] of convolutions and layers over channels; [.., channels] of the others
            places = output.numel() // output.shape[-1 if isinstance(layer, Linear) else -2]
            plain = published = layer.weight.numel() * places
        found["plain"] += plain
        found["published"] += published + (output.numel() if layer.bias is not None else 0)

    kinds = (nn.Conv1d, nn.Linear, nn.ConvTranspose1d, nn.PReLU)
    handles = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, kinds)]
    device, was_training = network.decoder.weight.device, network.training
    try:
        network.eval()
        with torch.no_grad():
            network(
                torch.zeros(1, network.channels, samples, device=device),
                torch.zeros(1, network.voiceprint_dim, device=device),
                torch.zeros(1, math.ceil(samples / FACE_HOP), network.visual_dim, device=device),
            )
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return found["plain"], found["published"]


def text(found: dict[str, int], seconds: float) -> str:
    """As people read it."""
    lines = [
        f"parameters            {found['parameters']:>15,}",
        f"  of them quantised   {found['quantised_parameters']:>15,}  in {found['quantised_tensors']} tensors",
        f"size                  {found['size_bytes']:>15,}  bytes, {found['size_bytes'] / 2**20:.4g} MB",
        f"multiplications       {found['macs']:>15,}  for {seconds:g} s, {found['macs'] / 1e9:.4g} G",
        f"  by the published rule {found['macs_published']:>13,}  {found['macs_published'] / 1e9:.4g} G",
    ]
    return "\n".join(lines)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.limuse.report", description=__doc__.partition("\n")[0])
    parser.add_argument("--config_path", required=True, metavar="FILE", help="recipe, a YAML file of config/")
    parser.add_argument("--seconds", type=float, default=3.0, help="of the mixture whose cost is counted (default: 3)")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; repeatable"
    )
    args = parser.parse_args(argv)
    refuse_empty(parser, args)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = parse_args(argv)
    with report_errors() as outcome:
        found = costs(meta_network(Recipe(args.config_path, overrides=args.override)), seconds=args.seconds)
        print(json.dumps(found) if args.json else text(found, args.seconds))
    return outcome.status


def meta_network(recipe: Recipe) -> Any:
    """The recipe's network without values."""
    with torch.device("meta"):
        return recipe.build("network")["network"]


if __name__ == "__main__":
    sys.exit(main())
