"""Evaluate a folder of extracted files: metrics with intervals, a table to paste, and a page to look at and listen to.

Writes metrics.jsonl (a row a file), summary.json, summary.md and report.html into the folder of the extracted files.
What is measured stays measured: the same command does what is missing. Needs requirements-eval.txt.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger("evaluate")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    from evaluation.registry import ASKED_FOR, NAMES, Settings
    from utils.errors import refuse_empty

    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  python evaluate.py -scp test --output out\n  python evaluate.py -scp test --output out "
        "-config config/tselm_l.yaml --floor-and-ceiling\n  python evaluate.py -scp test --output out -config "
        "config/speechtokenizer.yaml -ckpt FILE --each codebooks=1,2,4,8\n  python evaluate.py --compare out_a out_b",
    )
    add = parser.add_argument
    add(
        "-scp",
        "--scp_dir",
        metavar="DIR",
        help="folder with mix_clean.scp, s1.scp, aux_s1.scp, and s2.scp if any; a list of targets alone; or a "
        "ten-field list of mixtures before two microphones",
    )
    add(
        "--data-root",
        metavar="DIR",
        help="what the paths of a ten-field list are relative to (default: as in the extraction, else its folder)",
    )
    add("--output", metavar="DIR", help="folder of the extracted files; with --compare, where the comparison is kept")
    add(
        "--pairs",
        metavar="GOLD",
        help="which member of each pair a unit language model prefers: a gold.csv as ZeroSpeech 2021 has them, or its "
        "folder; with -config and -ckpt its files (of -scp, or beside it) are scored first, into --output",
    )
    add("--compare", nargs="+", metavar="DIR", help="compare evaluated folders with the first of them, file by file")
    add(
        "--cluster",
        metavar="TALKERS",
        help="intervals over talkers, then over the files of each, as a system treats the files of one talker alike: "
        "'talker' where the lists tell the targets' talkers, a list of names and talkers, or a pattern with one group "
        "around the talker in a file's name, as '^([^-]+)-'; with --compare too (default: over files)",
    )
    add(
        "--each",
        metavar="KEY=V,V",
        help="resynthesise the targets with each of these values of a key of the recipe (codebooks=1,2,4,8), evaluate "
        "all, and show them in one table",
    )
    add(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(NAMES)} (default: all that can run, but for {', '.join(ASKED_FOR)})",
    )
    add(
        "--absent",
        metavar="DIR",
        help="outputs for the same mixtures with enrolments of talkers who are not in them: how often silence came",
    )
    add("--floor-and-ceiling", action="store_true", help="score the mixture and the resynthesised target too")
    add("-config", "--config_path", metavar="FILE", help="recipe of the system, for metrics in tokens and the ceiling")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; repeatable")
    add("-ckpt", "--ckpt_path", metavar="FILE", help="checkpoint of a codec, for its tokens; others need none")
    add("-gpus", "--gpus", nargs="+", default=["auto"], metavar="DEVICE", help="for networks: cuda:0 ..., or cpu")
    add("-proc", "--proc", type=int, metavar="N", help="processes (default: one a core; for networks one a GPU)")
    add("--shard", default="1/1", metavar="I/N", help="score the I-th of N parts; without it, all are put together")
    add("--length-tolerance", type=float, default=0.0, metavar="SECONDS", help="lengths may differ so much (default 0)")
    add("--examples-by", metavar="COLUMN", help="what the page's best, median and worst file are chosen by")
    defaults = Settings()
    for name, what in (
        ("speechbert_model", "HuBERT or WavLM"),
        ("speechbert_layer", "its hidden state"),
        ("whisper_model", "Whisper"),
        ("speaker_model", "WavLM with x-vectors"),
    ):
        default = getattr(defaults, name)
        flag = "--" + name.replace("_", "-")
        add(flag, type=type(default), default=default, metavar="MODEL" if "model" in name else "N",
            help=f"{what}{', a folder or a hub id' if 'model' in name else ''} (%(default)s)")  # fmt: skip
    add("--nisqa-weights", metavar="PATH", help="nisqa.tar or its folder (default: where torchmetrics keeps it)")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    refuse_empty(parser, args)
    if args.compare and len(args.compare) < 2:
        parser.error("--compare needs two folders or more")
    if args.pairs and not args.output:
        parser.error("--pairs needs --output, where scores.jsonl is or will be")
    if args.pairs and args.cluster:
        parser.error("--cluster does not go with --pairs, whose intervals are over the pairs' ids")
    if not args.compare and not args.pairs and not (args.scp_dir and args.output):
        parser.error("give -scp and --output, or --pairs, or --compare")
    if args.each and not args.config_path:
        parser.error("--each needs -config, the recipe whose key it changes")
    if args.each and (args.shard != "1/1" or args.compare):
        parser.error("--each goes with neither --shard nor --compare")
    if args.proc is not None and args.proc < 1 or not 0 <= args.length_tolerance < float("inf"):
        parser.error("-proc must be above 0, and --length-tolerance a number that is not below")
    return args


def main(argv: list[str] | None = None) -> int:
    # Every process takes one core; libraries would take all of them. Said before any of them is imported.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    args = parse_args(argv)
    from utils.errors import report_errors
    from utils.logging import setup_console

    setup_console()
    with report_errors(args.debug) as outcome:
        named = {"compare": compare_all, "pairs": compare_pairs, "each": evaluate_each}
        work = next((work for name, work in named.items() if getattr(args, name)), evaluate_all)
        outcome.status = work(args)
    return outcome.status


def evaluate_all(args: argparse.Namespace) -> int:
    """Score what is missing and write the reports; returns the exit status: 1 if something could not be scored."""
    from evaluation import registry
    from evaluation.items import read_items
    from evaluation.metric import Unavailable
    from evaluation.rows import Rows
    from evaluation.scoring import score_all
    from evaluation.summary import markdown, summarise
    from evaluation.sweep import bits_per_second
    from evaluation.talkers import read_talkers
    from evaluation.tokens import codebook_usage
    from running.record import read_record, read_runs
    from running.shard import Shard
    from utils.files import write_json, write_text
    from utils.machine import available_cores

    output, shard = Path(args.output), Shard.parse(args.shard)
    items, problems, missing_lists = read_items(args.scp_dir, output, data_root=args.data_root)
    talkers = read_talkers(args.cluster, items, args.scp_dir) if args.cluster and items else {}
    items = [item for place, item in enumerate(items) if shard.has(place)]
    tokens = describe_tokens(args)
    settings = registry.Settings(
        args.speechbert_model, args.speechbert_layer, args.whisper_model, args.speaker_model, args.nisqa_weights,
        output / "tokens", Path(args.absent) if args.absent else None,
    )  # fmt: skip
    tells_presence = args.absent or any(item.presence is not None for item in items)
    default = (*registry.DEFAULT, *["presence"] * bool(tells_presence))
    metrics, unavailable = registry.make(args.metrics or default, settings, tokens)
    metrics, lacking = those_with_lists(metrics, items, args.scp_dir)
    unavailable |= lacking
    wanted = plan(metrics, items, args.floor_and_ceiling, can_resynthesise=not isinstance(tokens, Unavailable))
    if args.floor_and_ceiling and "ceiling" not in wanted:
        unavailable["ceiling"] = str(tokens) if isinstance(tokens, Unavailable) else f"no s1.scp in {args.scp_dir}"
    for name, reason in unavailable.items():
        log.info("cannot run: %s: %s", name, reason)
    needs_tokens = "ceiling" in wanted or any(metric.reads_tokens for metric in metrics)
    devices = ["cpu"]
    if needs_tokens or any(metric.on_device for metric in metrics):  # only then is torch needed here
        from utils.distributed import process_devices

        devices = process_devices(args.gpus, args.proc, jobs=len(items))
    without_tokens = tokenise_all(args, items, tokens, devices) if needs_tokens else {}

    outcome = score_all(
        items,
        wanted,
        Rows(output / "metrics.jsonl", shard=shard),
        devices=devices,
        cpu_processes=max(1, min(args.proc or available_cores(), len(items))),
        problems=problems,
        without_tokens=without_tokens,
        tolerance=args.length_tolerance,
        talkers=talkers,
    )
    unavailable |= outcome.unavailable
    if shard.count > 1:
        log.info("shard %s is scored; without --shard, all shards are put together", shard)
        return 1 if outcome.problems else 0
    scored = [item for item in items if item.name not in outcome.problems]
    tokenised = [item for item in scored if item.name not in without_tokens]
    made = output / "inference.json"
    record = read_record(made) if made.is_file() else {}
    summary = summarise(
        outcome.rows,
        wanted,
        unavailable=unavailable,
        missing_lists=missing_lists,
        folder=str(output),
        lists=str(args.scp_dir),
        length_tolerance=args.length_tolerance,
        codebooks=codebook_usage(tokenised, tokens) if needs_tokens else {},
        checkpoint=record.get("sha256"),
        bits_per_second=bits_per_second(record),
        speed=read_runs(made) if made.is_file() else [],
        presence_thresholds=thresholds(args, scored),
    )
    write_json(output / "summary.json", summary)
    write_text(output / "summary.md", markdown(summary))
    write_report(args, output, summary, outcome.rows, scored)
    print(markdown(summary))
    log.info("report: %s", (output / "report.html").absolute())
    asked = set(args.metrics or ()) & unavailable.keys()
    if outcome.problems:
        log.error(
            "%d of %d could not be scored: see %s", len(outcome.problems), len(outcome.rows), output / "summary.md"
        )
    for failure in summary["failures"]:
        first = ", ".join(failure["names"][:3])
        log.error(
            "%s of %s: %d failed (%s ...): %s",
            failure["metric"], failure["system"], failure["count"], first, failure["reason"],
        )  # fmt: skip
    return 1 if missing_lists or outcome.problems or summary["failures"] or asked else 0


def thresholds(args: argparse.Namespace, items: Sequence) -> list[dict[str, float]]:
    """What thresholds of presence would do to these files, where outputs for absent talkers are given."""
    from evaluation.presence import operating_points, scores_of

    present = [item.presence for item in items if item.presence is not None]
    return operating_points(present, list(scores_of(Path(args.absent)).values())) if args.absent else []


def those_with_lists(metrics: list, items: Sequence, lists: str) -> tuple[list, dict[str, str]]:
    """The metrics whose signals there are lists of, and name -> reason of the others."""
    from evaluation.items import LISTS

    roles = set(items[0].paths) if items else set(LISTS)
    roles |= {"interferer"} if {"mixture", "target"} <= roles else set()
    lacking = {metric.name: [LISTS[need] for need in metric.needs if need not in roles] for metric in metrics}
    reasons = {name: f"no {', no '.join(absent)} in {lists}" for name, absent in lacking.items() if absent}
    return [metric for metric in metrics if metric.name not in reasons], reasons


def plan(metrics: list, items: Sequence, floor_and_ceiling: bool, *, can_resynthesise: bool) -> dict[str, list]:
    """What is scored by which metrics: the extraction, and for comparison the mixture and the resynthesised target."""
    roles = set(items[0].paths) if items else set()
    when = ("always", "asked") if floor_and_ceiling else ("always",)
    compared = [metric for metric in metrics if metric.floor_and_ceiling in when]
    wanted = {"extracted": metrics}
    if compared and "mixture" in roles:
        wanted["mixture"] = compared
    if compared and "target" in roles and can_resynthesise:
        wanted["ceiling"] = compared
    return wanted


def describe_tokens(args: argparse.Namespace):
    """The recipe's tokens, or an Unavailable that says why there are none."""
    from evaluation.metric import Unavailable
    from evaluation.tokens import describe

    if args.metrics and not args.floor_and_ceiling and not {"tokens", "predicted_tokens"} & set(args.metrics):
        return Unavailable("not asked for")
    if not args.config_path:
        return Unavailable("no recipe: -config FILE (and its --override) says which tokenizer and vocoder")
    try:
        return describe(setup_of(args))
    except Unavailable as error:
        return error


def setup_of(args: argparse.Namespace):
    """How the recipe's system is made, in this process and in others."""
    from running.work import Setup

    return Setup("resynthesise", args.config_path, args.ckpt_path, tuple(args.override))


def tokenise_all(args: argparse.Namespace, items: Sequence, tokens, devices: Sequence) -> dict[str, str]:
    """Tokenise what is not tokenised yet; returns name -> why it could not be done."""
    from tqdm import tqdm

    from evaluation.tokens import is_tokenised, start
    from utils.workers import run_jobs

    todo = [item for item in items if not is_tokenised(item, tokens.digest)]
    failed = {}
    settings = (setup_of(args), tokens.digest)
    with tqdm(
        total=len(items), initial=len(items) - len(todo), desc="tokenising", unit="file", disable=not todo
    ) as bar:
        for done in run_jobs(todo, start, devices, *settings):
            bar.update()
            if done.error:
                failed[done.job.name] = done.error
    return failed


def write_report(args: argparse.Namespace, output: Path, summary: dict, rows: list[dict], items: Sequence) -> None:
    """Choose the examples and write the page."""
    from evaluation.examples import choose
    from evaluation.page import write_page

    write_page(output / "report.html", summary, rows, choose(summary, rows, items, by=args.examples_by))


def evaluate_each(args: argparse.Namespace) -> int:
    """Resynthesise and evaluate with each value of a key, and put all into one table; the largest exit status."""
    import json

    from evaluation.sweep import markdown, parse_each, put_together
    from utils.files import write_json, write_text

    key, values = parse_each(args.each)
    output, status, summaries = Path(args.output), 0, {}
    for value in values:
        log.info("%s=%s", key, value)
        changed = [*args.override, f"{key}={value}"]
        folder = output / f"{key}={value}"
        if (failed := infer(args, "--resynthesise", args.scp_dir, folder, changed)) > 1:
            return failed
        own = argparse.Namespace(**{**vars(args), "output": str(folder), "override": changed})
        status = max(status, failed, evaluate_all(own))
        summaries[value] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    found = put_together(key, summaries)
    write_json(output / "table.json", found)
    write_text(output / "table.md", markdown(found))
    print(markdown(found))
    return status


def infer(args: argparse.Namespace, job: str, what: str, output: Path, override: Sequence[str]) -> int:
    """Run a job of inference.py with what this program was given; returns its exit status."""
    import inference

    command = [job, str(what), "-config", args.config_path, "--output", str(output), "-gpus", *args.gpus]
    command += ["-proc", str(args.proc)] if args.proc else []
    command += ["-ckpt", args.ckpt_path] if args.ckpt_path else []
    return inference.main([*command, *(text for pair in override for text in ("--override", pair))])


def compare_pairs(args: argparse.Namespace) -> int:
    """Score the members of pairs, where a recipe says how, and compare them; the exit status is 1 if one is missing."""
    from data.scp import write_scp
    from evaluation.pairs import compare, find_files, gold_file, markdown, read_pairs, read_scores
    from utils.errors import first_few
    from utils.files import write_json, write_text

    output, pairs, status = Path(args.output), read_pairs(args.pairs), 0
    if args.config_path:
        files = find_files(pairs, args.scp_dir or gold_file(args.pairs).parent)
        if not files:
            raise FileNotFoundError(f"no member of {args.pairs} is there as .npy or audio: -scp FOLDER says where")
        output.mkdir(parents=True, exist_ok=True)
        write_scp(output / "pairs.scp", files)
        if (status := infer(args, "--score", output / "pairs.scp", output, args.override)) > 1:
            return status
    found = compare(pairs, read_scores(output / "scores.jsonl"))
    write_json(output / "pairs.json", found)
    write_text(output / "pairs.md", markdown(found))
    print(markdown(found))
    if found["missing"]:
        log.error("%d members have no score: %s", len(found["missing"]), first_few(found["missing"], 20))
    return 1 if found["missing"] else status


def compare_all(args: argparse.Namespace) -> int:
    from evaluation.compare import compare, markdown
    from utils.files import write_json, write_text

    comparison = compare([Path(folder) for folder in args.compare], cluster=args.cluster)
    print(markdown(comparison))
    if args.output:
        write_json(Path(args.output) / "comparison.json", comparison)
        write_text(Path(args.output) / "comparison.md", markdown(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main())
