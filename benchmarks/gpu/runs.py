"""What users run, as processes: trainings that must come out the same, long files, loaders, and the tests of a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import loading, memory
from benchmarks.gpu.bench import GPU_ONLY, Bench
from benchmarks.parts import write_parts
from benchmarks.two_nodes import data

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
TESTS = "tests/test_cuda.py"


def same(bench: Bench) -> None:
    """One training, twice; killed and started again; by torchrun; and on two cards where there are two."""
    recipe, paths = write_parts(bench.folder / "parts-toy", toy=True)
    folder = bench.folder / "same"
    steps = 2 if bench.toy else 6  # of an epoch
    keys = [*paths, *data(folder), "log_interval=1", "save_interval=1", "batch_size=8", "batch_size_eval=4", "epoch=2"]
    keys += [f"epoch_num={8 * steps}", f"num_workers={int(bench.is_cuda)}", "mix_length=16080", "regi_length=16080"]

    def command(run: str, gpus: str = str(bench.device)) -> list[str]:
        where = ["--log_path", folder / run / "log", "--ckpt_path", folder / run / "ckpt"]
        overrides = [part for key in [*keys, f"gpus={gpus}"] for part in ("--override", key)]
        return ["train.py", "--config_path", *map(str, [recipe, *where]), *overrides]

    killed = start(command("killed"), folder)
    others = {
        "again": start(command("again"), folder),
        "torchrun": start([*TORCHRUN, "1", *command("torchrun", "auto" if bench.is_cuda else "cpu")], folder),
    }
    one = start(command("one"), folder)
    saved = folder / "killed/ckpt/last.pth"
    while not saved.exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    finish(start(command("killed"), folder))
    finish(one)
    titles = {
        "again": "a second time",
        "killed": "killed after its first step that was saved, and continued",
        "torchrun": f"by torchrun with {'NCCL' if bench.is_cuda else 'gloo'}, one process",
    }
    for name, title in titles.items():
        with bench.apart("training", title):
            if name in others:
                finish(others[name])
            bench.found("training", f"the same {title}, against the first", compared(folder, "one", name))
    two = "by torchrun with NCCL, two processes on two cards"
    if torch.cuda.device_count() < 2:
        bench.found("training", two, "not run", f"there are {torch.cuda.device_count()} cards")
        return
    finish(start([*TORCHRUN, "2", *command("two", "auto")], folder))
    bench.found("training", f"the same {two}, against the first", compared(folder, "one", "two"))


def start(words: Sequence[str], folder: Path) -> subprocess.Popen:
    with open(folder / "said.txt", "a") as said:
        return subprocess.Popen(
            [sys.executable, *words], env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip


def finish(process: subprocess.Popen) -> None:
    """Wait for a process; raises a RuntimeError with the end of what all of them said if it failed."""
    if status := process.wait():
        said = next(Path(word).parents[1] / "said.txt" for word in process.args if word.endswith("/log"))
        raise RuntimeError(f"status {status}: {said.read_text()[-250:]}")


def compared(folder: Path, first: str, second: str) -> str:
    one, two = (torch.load(folder / run / "ckpt/last.pth", weights_only=True)["model"] for run in (first, second))
    alike = sum(torch.equal(one[name], two[name]) for name in one)
    largest = max((one[name].double() - two[name].double()).abs().max().item() for name in one)
    return f"{alike} of {len(one)} tensors equal, largest difference {largest:.1e}"


def tests(bench: Bench) -> None:
    """Those with the mark ``cuda``."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider", TESTS],
        capture_output=True, text=True, env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
    said = [line for line in done.stdout.splitlines() if line.strip()]
    failed = [line.split(" - ")[0].split("::")[-1] for line in said if line.startswith(("FAILED", "ERROR"))]
    bench.found("tests", "of the mark cuda", said[-1].strip("= ") if said else "nothing was said", ", ".join(failed))


def loaders(bench: Bench) -> None:
    """Items a second from loader processes, against those that a training step takes."""
    takes = bench.recalled("items_per_second")
    index = loading.write_corpus(bench.folder / "flac", seconds=4.1 if bench.toy else 14.0)
    for workers in [1] if bench.toy else [1, 2, 4, 8]:
        with bench.apart("loaders", loading.named(workers)):
            rates = loading.loader(index, 16 if bench.toy else 128, workers=workers, repeats=1)
            whole, ours = rates
            note = f"whole files decoded: {whole:.0f}; {ours / whole:.2f} times as many"
            if takes:
                note += f"; a step in bf16 takes {takes:.0f} a second, so {ours / takes:.1f} cards are fed"
            bench.found("loaders", f"training items from flac, {loading.named(workers)}", f"{ours:.0f} /s", note)


def long_files(bench: Bench) -> None:
    """The most memory of extraction from 5 and from 60 minutes."""
    recipe, keys = bench.parts()
    precision = "bf16" if bench.is_cuda else "fp32"
    keys = [*keys, f"tokenizer_precision={precision}", f"inference_precision={precision}"]
    options = ["--threads", str(torch.get_num_threads()), "--gpus", str(bench.device)]
    for minutes, peak, gpu, seconds in memory.measured(recipe, keys, [0.2, 0.5] if bench.toy else [5, 60], options):
        on_gpu = GPU_ONLY if gpu is None else f"{gpu:.0f} MiB of the GPU's"
        note = f"{60 * minutes / seconds:.0f} times real time in {precision}, with reading and writing"
        bench.found("TSELM", f"extracting {minutes:g} minutes", f"{peak:.0f} MiB of memory; {on_gpu}", note)
