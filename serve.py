"""A page on this machine, to try the systems on one's own recordings: drop a mixture and a voice, press, and listen.

It listens on this machine alone, unless --host says otherwise, and keeps nothing once it has ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

EXAMPLES = """examples:
  python serve.py                                  the systems of pretrained/
  python serve.py -config config/tselm_l.yaml -ckpt exp/tselm_l/ckpt/best.pth    and one's own, first"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES
    )
    add = parser.add_argument
    add("-config", "--config_path", metavar="FILE", help="a recipe to show first, a YAML file of config/")
    add("-ckpt", "--ckpt_path", metavar="FILE", help="its checkpoint")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="change a key of it; repeatable")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on: 0.0.0.0 is all (default: this machine)")
    add("--port", type=int, default=7860, metavar="N", help="(%(default)s, or the next that is free; 0: any)")
    add("--device", default="auto", help="where to compute: cuda:0 ..., or cpu (default: the first GPU, if any)")
    add("--threads", type=int, metavar="N", help="on the CPU (default: one a core; 1 gives inference.py's last bits)")
    add("--max-mb", type=float, default=1000.0, metavar="N", help="largest file that is taken (%(default)g)")
    add("--max-minutes", type=float, default=120.0, metavar="N", help="longest recording that is taken (%(default)g)")
    add("--open", action="store_true", help="open the page in a browser")
    add("--debug", action="store_true", help="show the whole traceback of an error")
    args = parser.parse_args(argv)
    if args.ckpt_path and not args.config_path or args.override and not args.config_path:
        parser.error("-ckpt and --override are of a recipe: -config FILE")
    if not 0 <= args.port < 65536:
        parser.error(f"--port must be 0 to 65535, got {args.port}")
    if args.threads is not None and args.threads < 1 or not args.max_mb > 0 or not args.max_minutes > 0:
        parser.error("--threads, --max-mb and --max-minutes must be above 0")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported, as in inference.py
    from utils.errors import report_errors
    from utils.logging import setup_console

    setup_console()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with report_errors(args.debug) as outcome:
        from page.server import serve

        serve(args, ended)
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
