"""The process that does the parts, one after the other, as the command asks for them.

What it keeps on the device from one part to the next is nothing; what it keeps on disk is in ``--folder``. When the
command ends, in whatever way, so does it, with all that it has started.
"""

from __future__ import annotations

import argparse
import gc
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.plan import PARTS
from benchmarks.measure import parser, prepare


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--profile", type=Path, required=True)
    options.add_argument("--pipe", type=int, required=True, help="the descriptor that lines are written to")
    args = options.parse_args(argv)
    with os.fdopen(args.pipe, "w") as pipe:
        return serve(args, pipe)


def serve(args: argparse.Namespace, pipe) -> int:
    asked: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=listen, args=(asked,), daemon=True).start()
    device = prepare(args)
    bench = Bench(
        device=device, toy=args.toy, repeats=args.repeats, folder=args.folder, profile=args.profile, pipe=pipe
    )
    bench.tell(ready=True)
    while name := asked.get():
        torch.manual_seed(0)
        try:
            PARTS[name].run(bench)
        except Exception as error:  # of any kind: the next part is not to suffer from it
            traceback.print_exc()
            bench.tell(error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            if isinstance(error, torch.AcceleratorError):  # another process is to go on: this one's device is gone
                return 3
        gc.collect()
        if bench.is_cuda:
            torch.cuda.empty_cache()
        bench.tell(done=name)
    return 0


def listen(asked: queue.Queue[str | None]) -> None:
    """Read what is asked for; not through ``sys.stdin``, whose lock a loader process would inherit and wait for."""
    text = b""
    while read := os.read(0, 2**12):
        *lines, text = (text + read).split(b"\n")
        for line in lines:
            asked.put(line.decode() or None)  # None: no more, end by itself
            if not line:
                return
    os.killpg(0, signal.SIGKILL)  # the command is gone


if __name__ == "__main__":
    sys.exit(main())
