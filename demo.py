"""The toy system at work, in a few minutes on a CPU: `make demo`, or `python demo.py --help`.

Makes new mixtures of synthetic voices and sentences that the system in pretrained/toy has never heard, extracts one
talker of each with two processes, measures what came out, and writes a page to look at and listen to. Then it trains on
from the same weights for a few steps, which shows that training runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from utils.commands import overrides, run, step

RECIPE, WEIGHTS = "config/tselm_toy.yaml", Path("pretrained/toy/tselm.pth")
METRICS = ("predicted_tokens", "talker", "stoi", "dnsmos")  # those that need no download, and say something here
SHOWN = {"stoi": "STOI", "correct_talker_mel": "nearer to the target, %", "dnsmos_ovrl": "DNSMOS OVRL"}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="exp/demo", type=Path, metavar="DIR", help="where all goes (%(default)s)")
    parser.add_argument("--mixtures", default=20, type=int, metavar="N", help="to extract from (%(default)s)")
    parser.add_argument("--steps", default=20, type=int, metavar="N", help="of training, thrice (%(default)s)")
    parser.add_argument("--seed", default=1, type=int, help="another one: other voices and sentences (%(default)s)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if not WEIGHTS.is_file():
        print(
            f"error: no {WEIGHTS}: run this in a whole checkout of the project, or make it: make toy", file=sys.stderr
        )
        return 2
    data, out, log = args.output / "data", args.output / "extracted", args.output / "log"
    started = time.time()

    step("new mixtures, of voices and sentences that were not trained on")
    sizes = ("--hours", 0.1, "--dev", 8, "--test", args.mixtures, "--seed", args.seed)
    run("-m", "data.prepare.synthetic", "--output", data, *sizes)

    step("extraction with two processes")
    where = ("-scp", data / "test", "-config", RECIPE, "--output", out, "-gpus", "cpu", "-proc", 2)
    run("inference.py", *where, "-ckpt", WEIGHTS, "--save-tokens")

    step("evaluation, beside the mixtures (the floor) and the targets' own tokens (the ceiling)")
    run("evaluate.py", *where, "--floor-and-ceiling", "--metrics", *METRICS, "--examples-by", "stoi")

    step("a little more training, from these weights (Ctrl-C saves; the same command continues)")
    lists = {
        "tr_data_scp_path": data / "train.json",
        "cv_mix_path": data / "dev/mix_clean.scp",
        "cv_ref_path": data / "dev/aux_s1.scp",
        "cv_clean_path": data / "dev/s1.scp",
    }
    changes = {"epoch": 3, "epoch_num": 8 * args.steps, "lr": 0.0001, "log_interval": 5, "save_interval": "null"}
    where = ("--config_path", RECIPE, "--log", log, "--ckpt_path", args.output / "ckpt", "--init", WEIGHTS)
    run("train.py", *where, *overrides({**lists, **changes}))

    step("result")
    report(args.output, steps=args.steps)
    print(f"all of it took {(time.time() - started) / 60:.1f} minutes")
    return 0


def report(folder: Path, *, steps: int) -> None:
    """Print the few numbers that matter, and draw an example and the training's curve."""
    from evaluation.card import read_log
    from evaluation.curves import curves_svg
    from utils.files import write_text
    from utils.run_record import read_record

    out = folder / "extracted"
    metrics = read_record(out / "summary.json")["metrics"]
    print(f"{'':26}{'mixture':>10}{'extracted':>11}{'ceiling':>9}")
    for column, title in SHOWN.items():
        systems = metrics[column]["systems"]
        cells = [systems[name]["mean"] if name in systems else None for name in ("mixture", "extracted", "ceiling")]
        print(
            f"{title:26}"
            + "".join(f"{'-' if x is None else f'{x:.3g}':>{w}}" for x, w in zip(cells, (10, 11, 9), strict=True))
        )
    lines = read_log(folder / "log/metrics.jsonl")
    valid = [line for line in lines if line["kind"] == "valid"]
    if valid:
        print(f"dev token error, %, after {steps}, {2 * steps} and {3 * steps} more steps of training:", end=" ")
        print(
            ", ".join(f"{line['error']:.1f}" for line in valid),
            f"(copying the mixture's: {valid[-1]['copy_error']:.1f})",
        )
    train = [(line["step"], line["error"]) for line in lines if line["kind"] == "train"]
    dev = [(line["step"], line["error"]) for line in valid]
    picture = curves_svg(
        {"training": train, "dev": dev}, title="Wrong tokens while training on, %", x_title="steps", y_title="error"
    )
    write_text(folder / "error.svg", picture)
    draw_example(out, folder / "example.png")
    print(f"an example: {folder / 'example.png'}; the error: {folder / 'error.svg'}")
    print(f"to look at and listen to: {(out / 'report.html').absolute()}")


def draw_example(out: Path, picture: Path) -> None:
    """Mixture, extraction and target of the file with the median STOI, as spectrograms one below the other."""
    from data import audio
    from data.scp import output_path, read_scp
    from evaluation.media import draw_spectrograms
    from evaluation.rows import Rows, score_of

    rows = sorted(Rows(out / "metrics.jsonl").read(), key=lambda row: score_of(row, "extracted", "stoi") or 0.0)
    name = rows[len(rows) // 2]["name"]
    lists = out.parent / "data/test"
    draw_spectrograms(
        picture,
        {
            "the mixture": audio.read(read_scp(lists / "mix_clean.scp")[name]),
            "what was extracted": audio.read(output_path(out, name)),
            "the target, which was not heard": audio.read(read_scp(lists / "s1.scp")[name]),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
