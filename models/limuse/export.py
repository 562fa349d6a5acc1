"""A trained LiMuSE as one file of as few bytes as its bits, or as a graph for other programs.

python -m models.limuse.export --config_path config/limuse_quantised.yaml --ckpt_path best.pth \\
    --output limuse.safetensors
python -m models.limuse.export --config_path config/limuse.yaml --ckpt_path best.pth --output limuse.onnx
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from models.limuse import graph, packing
from models.limuse.files import load_weights
from utils.errors import refuse_empty, report_errors
from utils.logging import setup_console
from utils.recipe import Recipe


def export(config: Path, checkpoint: Path, output: Path, overrides: Sequence[str] = ()) -> Path:
    """Write what the ending of ``output`` says: ``.safetensors``, ``.onnx`` or ``.pt2``.

    Raises:
        FileNotFoundError, ValueError: what is missing or does not fit, by name.
    """
    if output.suffix not in (".safetensors", *graph.FORMS):
        raise ValueError(f"cannot export to {output}: one of .safetensors, {', '.join(graph.FORMS)} can be written")
    recipe = Recipe(config, overrides=overrides)
    network, thresholds_path = recipe.build("network", "thresholds_path").values()
    if not checkpoint.exists():
        raise FileNotFoundError(f"no such checkpoint: {checkpoint}")
    settings = load_weights(network, checkpoint, thresholds_path=thresholds_path)
    if output.suffix == ".safetensors":
        if network.quantised and network.quantiser is None:
            raise ValueError(f"{checkpoint} is packed already: copy it")
        kept = {key: value for key, value in settings.items() if key == "voiceprints"}
        return packing.write(output, network, kept)
    network.harden()
    return graph.write(output, network.eval())


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.limuse.export", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--config_path", type=Path, required=True, metavar="FILE", help="recipe, a YAML file of config/")
    add("--ckpt_path", type=Path, required=True, metavar="FILE", help="trained or released checkpoint")
    add("--output", type=Path, required=True, metavar="FILE", help="FILE.safetensors, FILE.onnx or FILE.pt2")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; repeatable")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    refuse_empty(parser, args)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = parse_args(argv)
    setup_console()
    with report_errors(args.debug) as outcome:
        path = export(args.config_path, args.ckpt_path, args.output, args.override)
        takes = f"; it takes {graph.LIMITS[path.suffix]}" if path.suffix in graph.LIMITS else ""
        print(f"wrote {path}, {path.stat().st_size:,} bytes{takes}")
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
