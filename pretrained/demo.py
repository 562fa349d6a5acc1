"""The whole system on a CPU, with the toy weights: `make demo`, or `python -m pretrained.demo --help`.

Makes mixtures of synthetic voices and sentences that the weights have not heard, extracts them with two processes,
and evaluates what came out between its floor, the mixture, and its ceiling, the target's own tokens through the
vocoder. Then trains a little further, from the shipped weights, and prints the error curve.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from utils.commands import overrides, run, step

RECIPE = "config/toy/tselm.yaml"
SEED = 2026  # any but 0, which the weights were trained with: other voices and sentences
METRICS = ("predicted_tokens", "talker", "dnsmos", "stoi", "estoi", "pesq", "si_sdr", "si_sdri")  # need no download
SHOWN = ("predicted_token_error", "stoi", "dnsmos_ovrl", "correct_talker_mel")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="exp/demo", type=Path, metavar="DIR", help="where all goes (%(default)s)")
    parser.add_argument("--toy", default="pretrained/toy", type=Path, metavar="DIR", help="the weights (%(default)s)")
    parser.add_argument("--mixtures", default=24, type=int, help="to extract (%(default)s)")
    parser.add_argument("--hours", default=0.2, type=float, help="of speech to train further with (%(default)s)")
    parser.add_argument("--steps", default=40, type=int, help="of training between two validations (%(default)s)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    data, out, further = args.output / "data", args.output / "extracted", args.output / "further"
    weights = args.toy / "tselm.pth"
    if not weights.is_file():
        print(f"error: no such file: {weights}; make toy trains a toy system, see --toy", file=sys.stderr)
        return 2
    started = time.time()
    parts = {
        "wavlm_path": args.toy / "wavlm",
        "kmeans_path": args.toy / "kmeans",
        "hifi_gan_path": args.toy / "vocoder",
    }

    step("voices and sentences that were not trained on")
    size = ("--hours", args.hours, "--dev", args.mixtures, "--test", args.mixtures)
    run("-m", "data.prepare.synthetic", "--output", data, *size, "--seed", SEED)

    step("extraction with two processes")
    where = ("-scp", data / "test", "-config", RECIPE, "--output", out, "-gpus", "cpu", "-proc", 2, *overrides(parts))
    run("inference.py", *where, "-ckpt", weights, "--save-tokens")

    step("evaluation: of the extractions, of the mixtures (the floor), and of the targets' own tokens (the ceiling)")
    run("evaluate.py", *where, "--floor-and-ceiling", "--metrics", *METRICS)

    step("training further, from the shipped weights (Ctrl-C saves; the same command continues)")
    lists = {
        "tr_data_scp_path": data / "train.json",
        "cv_mix_path": data / "dev/mix_clean.scp",
        "cv_ref_path": data / "dev/aux_s1.scp",
        "cv_clean_path": data / "dev/s1.scp",
    }
    # A validation batch takes half of the list, so that the first evaluation, of two batches, is of all of it.
    sizes = {"epoch": 3, "epoch_num": 8 * args.steps, "batch_size_eval": -(-args.mixtures // 2), "lr": 0.0001}
    where = ("--config_path", RECIPE, "--log", further / "log", "--ckpt_path", further / "ckpt", "--init", weights)
    run("train.py", *where, *overrides({**parts, **lists, **sizes, "gpus": "[cpu, cpu]"}))

    step(f"what {args.mixtures} mixtures gave, of voices and sentences that were not trained on")
    print_table(out)
    print_curve(further / "log")
    draw_median(data / "test", out, args.output / "example.png")
    print(f"a file of middling quality as a picture: {args.output / 'example.png'}")
    print(f"to look at and listen to: {(out / 'report.html').absolute()}")
    print(f"all of it took {(time.time() - started) / 60:.1f} minutes")
    return 0


def print_table(out: Path) -> None:
    """The measures that say most, of floor, result and ceiling."""
    from evaluation.format import NOTHING, SYSTEMS, heading, number

    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    systems = [system for system in ("mixture", "extracted", "ceiling") if system in summary["systems"]]
    titles = [f"   {SYSTEMS[system]}" for system in systems]
    print(f"{'':28}" + "".join(titles))
    for key in SHOWN:
        column = summary["metrics"][key]
        title = heading(column["title"], unit=column["unit"], better=column["better"])
        means = [column["systems"].get(system, {}).get("mean") for system in systems]
        cells = [NOTHING if mean is None else number(mean, column["unit"]) for mean in means]
        print(f"{title:28}" + "".join(f"{cell:>{len(head)}}" for cell, head in zip(cells, titles, strict=True)))


def print_curve(log: Path) -> None:
    """The error of the validations, and what it is without a network."""
    lines = [json.loads(line) for line in (log / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    valid = [line for line in lines if line["kind"] in ("first evaluation", "valid")]
    print("\ndev token error, percent (lower is better), while training goes on")
    print(f"  copying the mixture's tokens {valid[-1]['copy_error']:6.1f}")
    for line in valid:
        name = f"after {line['step']} steps" if line["step"] else "as shipped"
        print(f"  {name:28} {line['error']:6.1f}  {'#' * round(line['error'] / 2)}")
    print()


def draw_median(lists: Path, out: Path, path: Path) -> None:
    from evaluation.examples import read_median
    from evaluation.media import draw_spectrograms

    signals = read_median(lists, out, by="stoi").signals
    draw_spectrograms(path, {name: signals[name] for name in ("mixture", "target", "extracted")})


if __name__ == "__main__":
    sys.exit(main())
