"""Run any system of this project, on any number of devices and processes: extract a talker from one file or a folder of
lists, turn files into tokens, tokens into sound, or whatever else its recipe offers.

What is finished stays finished: the same command does what is missing. The number of processes changes no result.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

log = logging.getLogger("inference")
ROOT = Path(__file__).resolve().parent
SYSTEM = ROOT / "pretrained/toy"  # extracts where no recipe is given; with its card
DEFAULT = ROOT / "config/toy/tselm.yaml", SYSTEM / "tselm.pth"
EXAMPLES = """examples:
  python inference.py --mixture a.wav --enrolment b.wav --output c.wav      with the system that comes along
  python inference.py -scp test -config config/tselm_l.yaml -ckpt best.pth --output out -gpus cuda:0 cuda:1 -proc 8
  python inference.py -config config/tselm_l.yaml -ckpt best.pth --mixture a.wav --enrolment b.wav --output c.wav
  python inference.py --tokenize train.json -config config/unit_hifigan.yaml --output tokens -proc 2
  python inference.py -config config/unit_hifigan.yaml        says what the recipe can do"""
# job -> how its list is given, as the prompt shows it
LISTS = {
    "extract": "-scp FOLDER", "tokenize": "--tokenize LIST", "decode": "--decode LIST",
    "resynthesise": "--resynthesise LIST", "score": "--score LIST", "continue": "--continue LIST",
}  # fmt: skip
MOST_THREADS = 64  # that may be asked for on any machine, to have another's last bits; many more end the process
GIVEN = ("mixture", "enrolment", "visual", "speaker")  # inputs that can be given one by one


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES
    )
    add = made.add_argument
    add("-scp", "--scp_dir", metavar="DIR", help="extract: a folder with mix_clean.scp, aux_s1.scp ... (`name path`)")
    add("--mixture", metavar="FILE", help="extract from one mixture, instead of a folder")
    add("--enrolment", metavar="FILE", help="speech of the talker to extract, or to speak as, for all items")
    add("--visual", metavar="FILE", help="the talker's face, where the recipe takes one")
    add("--speaker", metavar="NAME", help="who speaks, where the recipe knows speakers by name")
    add(
        "--tokenize",
        metavar="LIST",
        help="files of a list (`name path`, or a speaker index) to tokens, NAME.npy [N, K]",
    )
    add("--decode", metavar="LIST", help="tokens of a list (`name tokens.npy`) to sound, NAME.wav")
    add("--resynthesise", "--resynthesize", metavar="LIST", help="files to tokens, and back to sound, NAME.wav")
    add("--score", metavar="LIST", help="the likelihood of each item of a list")
    add("--continue", metavar="LIST", help="each item of a list goes on")
    add("-config", "--config_path", metavar="FILE", help="recipe, a YAML file of config/; extraction has a default")
    add("-ckpt", "--ckpt_path", metavar="FILE", help="trained or released checkpoint; the recipe says if one is needed")
    add("--output", metavar="PATH", help="folder for what is made; with --mixture, the file")
    add("-gpus", "--gpus", nargs="+", default=["auto"], metavar="DEVICE", help="cuda:0 ..., or cpu (default: all)")
    add("-proc", "--proc", type=int, metavar="N", help="processes over the devices (default: one a GPU or core)")
    add("--threads", type=int, default=1, metavar="N",
        help="threads of a process on the CPU (default: 1); more can change the last bits of a result")  # fmt: skip
    add(
        "--shard", default="1/1", metavar="I/N", help="do the I-th of N parts of the list, for a job array of a cluster"
    )
    add("--overwrite", action="store_true", help="make again what is already there")
    add("--save-tokens", action="store_true", help="keep the tokens too, as OUTPUT/tokens/NAME.npy [N, K]")
    add("--report", action="store_true", help="evaluate when all is done (evaluate.py); includes --save-tokens")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; repeatable")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    return made


def parse_args(argv: list[str] | None) -> tuple[argparse.Namespace, str | None]:
    """The arguments, and the job that they ask for; None if they only ask what there is."""
    from utils.errors import refuse_empty

    made = parser()
    args = made.parse_args(argv)
    refuse_empty(made, args)
    asked = {job: getattr(args, job) for job in LISTS if job != "extract"} | {"extract": args.scp_dir or args.mixture}
    jobs = [job for job, where in asked.items() if where is not None]
    if not jobs and not args.output:
        return args, None
    if len(jobs) != 1 or (args.scp_dir and args.mixture):
        made.error(f"give one of --mixture FILE, {', '.join(LISTS.values())}")
    if not args.config_path and not args.ckpt_path and jobs == ["extract"]:
        args.config_path, args.ckpt_path = map(str, DEFAULT)
    if not args.config_path or not args.output:
        made.error("-config FILE and --output PATH are needed")
    if args.proc is not None and args.proc < 1 or args.threads < 1:
        made.error("-proc and --threads must be above 0")
    if args.threads > max(MOST_THREADS, os.cpu_count() or 1):
        made.error(f"--threads {args.threads} are more than can be started: the machine has {os.cpu_count()} cores")
    if args.mixture and (args.report or args.save_tokens or args.shard != "1/1"):
        made.error("--report, --save-tokens and --shard are for lists")
    if args.report and not args.scp_dir:
        made.error("--report is for a folder of lists, -scp")
    return args, jobs[0]


def main(argv: list[str] | None = None) -> int:
    args, job = parse_args(argv)
    # Threads that wait must sleep: by spinning they take the cores from the loaders and from other processes. It has
    # to be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from utils.errors import report_errors
    from utils.logging import setup_console

    setup_console()
    if args.config_path == str(DEFAULT[0]) and args.ckpt_path == str(DEFAULT[1]):
        log.info("the system that comes along: what it is and how good is told in %s", SYSTEM / "README.md")
    with report_errors(args.debug) as outcome:
        outcome.status = run(args, job) if job else prompt(args)
    if args.report and outcome.status in (0, 1):
        return evaluate_all(args) or outcome.status
    return outcome.status


def run(args: argparse.Namespace, job: str) -> int:
    """Run the recipe's program for a job; returns the exit status: 1 if a file failed."""
    from running.run import Options, run_list, run_one
    from running.shard import Shard
    from running.work import Setup

    setup = Setup(job, args.config_path, args.ckpt_path, tuple(args.override), args.threads)
    given = {role: getattr(args, role) for role in GIVEN if getattr(args, role) is not None}
    keep, shard = args.save_tokens or args.report, Shard.parse(args.shard)
    options = Options(args.gpus, args.proc, overwrite=args.overwrite, optional=keep, shard=shard, given=given)
    if args.mixture:
        return run_one(setup, Path(args.output), options)
    where = args.scp_dir if job == "extract" else getattr(args, job)
    return run_list(setup, where, Path(args.output), options)


def prompt(args: argparse.Namespace) -> int:
    """Say what can be done, with the recipe or at all, and the shortest command; returns the exit status."""
    if not args.config_path:
        print("Which system? -config FILE: one of config/*.yaml, or your own. With it alone, this program says more.")
        print(f"\n{EXAMPLES}\n\nAll options: python inference.py --help")
        return 2
    from models.load import offered
    from utils.recipe import Recipe

    recipe = Recipe(args.config_path, overrides=args.override)
    command = f"python inference.py -config {args.config_path}"
    jobs = offered(recipe)
    print(f"{args.config_path} can " + (", ".join(jobs) or "not be run: it only trains") + (":\n" if jobs else ""))
    for job in jobs:
        print(f"  {command} {LISTS[job]} --output OUT")
    if "extract" in jobs:
        print(f"  {command} --mixture FILE --enrolment FILE --output FILE")
    print("\nTrained weights come with -ckpt FILE; what a recipe needs and lacks is told. All options: --help")
    return 2


def evaluate_all(args: argparse.Namespace) -> int:
    """What evaluate.py does, on what was extracted."""
    import evaluate

    command = ["-scp", args.scp_dir, "--output", args.output, "-config", args.config_path, "-gpus", *args.gpus]
    command += ["-proc", str(args.proc)] if args.proc else []
    for override in args.override:
        command += ["--override", override]
    return evaluate.main([*command, *(["--debug"] if args.debug else [])])


if __name__ == "__main__":
    sys.exit(main())
