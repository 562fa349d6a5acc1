"""Time, peak and memory, measured the same way in every benchmark, and the table that they print."""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from utils.machine import available_cores, device_name
from utils.precision import instructions
from utils.seed import make_reproducible


@dataclass(frozen=True)
class Row:
    """One line of a benchmark.

    Attributes:
        work: what was done.
        baseline, ours: seconds; baseline None where there is nothing to compare with.
        operations: floating-point operations of it as ``benchmarks.floor`` counts them, 0 if they were not counted.
        note: anything else.
        precision: whose peak the operations are compared with.
        audio: seconds of sound that were computed, 0 where that says nothing.
        moved: bytes that its operations read and write, 0 if they were not counted.
    """

    work: str
    baseline: float | None
    ours: float
    operations: float = 0.0
    note: str = ""
    precision: str = "fp32"
    audio: float = 0.0
    moved: float = 0.0


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", default="cpu", help="cpu or cuda:0 (%(default)s)")
    made.add_argument("--toy", action="store_true", help="toy sizes, in seconds")
    made.add_argument("--threads", type=int, default=available_cores(), help="on the CPU (%(default)s)")
    made.add_argument("--repeats", type=int, default=5, help="of each measurement; the median counts (%(default)s)")
    return made


def prepare(args: argparse.Namespace) -> torch.device:
    """Threads, random state, and true float32 where nothing else is asked for; returns the device."""
    import speechbrain  # noqa: F401  it allows TF32 as it is imported

    make_reproducible()
    gc.collect()
    gc.freeze()  # the collection before each measurement then goes through what the benchmark has made, and no more
    device = torch.device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(
        f"{device_name(device)} ({instructions(device)}), torch {torch.__version__}, {args.threads} threads", flush=True
    )
    return device


def side_by_side(
    first: Callable[[], object], second: Callable[[], object], *, device: torch.device, repeats: int
) -> tuple[float, float]:
    """Median seconds of two functions, run in turns, so that a slow moment of the machine meets both."""
    first(), second()  # what is done once, is done now
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, seconds in zip((first, second), times, strict=True):
            seconds.append(once(function, device=device))
    return statistics.median(times[0]), statistics.median(times[1])


def against(
    plain: Callable[[], object] | float, ours: Callable[[], object], *, device: torch.device, repeats: int
) -> tuple[float, float]:
    """``side_by_side``, or, where the plain way's seconds are known from the same run, those and ours."""
    if callable(plain):
        return side_by_side(plain, ours, device=device, repeats=repeats)
    ours()
    return plain, statistics.median(once(ours, device=device) for _ in range(repeats))


def once(function: Callable[[], object], *, device: torch.device) -> float:
    """Seconds of one call."""
    gc.collect()
    _wait(device)
    since = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - since


def where_time_goes(function: Callable[[], object], *, device: torch.device, parts: int = 6) -> str:
    """The operations that take most of a call's time, and the share of each."""
    taken = {name: seconds for name, (seconds, _) in times_of_parts(function, device=device).items()}
    whole = sum(taken.values())
    most = sorted(taken, key=lambda name: -taken[name])[:parts]
    return ", ".join(f"{name.rpartition('::')[2]} {100 * taken[name] / whole:.0f} %" for name in most)


def times_of_parts(function: Callable[[], object], *, device: torch.device) -> dict[str, tuple[float, int]]:
    """Seconds in each of a call's kernels, on a CPU in each of its operations, and how often it ran."""
    is_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CUDA if is_cuda else ProfilerActivity.CPU]
    with profile(activities=activities, acc_events=True) as profiler:
        function()
        _wait(device)
    found = {}
    for event in profiler.key_averages():
        microseconds = event.self_device_time_total if is_cuda else event.self_cpu_time_total
        found[event.key] = microseconds / 1e6, event.count
    return found


def bandwidth(device: torch.device, *, repeats: int = 10) -> float:
    """Bytes a second of a large copy, read and written: what the memory can do at best."""
    size = 2**30 if device.type == "cuda" else 2**26
    source = torch.randn(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / min(once(lambda: target.copy_(source), device=device) for _ in range(repeats))


def matmul_peak(device: torch.device, dtype: torch.dtype = torch.float32, *, budget: float = 2.0) -> float:
    """Floating-point operations a second of matrix products: what the machine can do at best.

    The products grow, to 2048 x 2048 on a CPU and 8192 x 8192 on a GPU, as long as those of the next size would take
    no more than ``budget`` seconds: where a type is emulated, bf16 without its instructions for example, a product of
    full size takes half a minute.
    """
    size, largest, repeats, best = 128, 8192 if device.type == "cuda" else 2048, 4, 0.0
    while True:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        seconds = min(once(lambda a=a, b=b: a @ b, device=device) for _ in range(repeats))
        best = max(best, 2 * size**3 / seconds)
        if size == largest or 8 * repeats * seconds > budget:
            return best
        size *= 2


def show(rows: Sequence[Row], *, peaks: dict[str, float]) -> None:
    """Print the table: ratio, seconds, and the share of the machine's measured peak."""
    print(
        "\n" + "matrix-product peak: " + ", ".join(f"{name} {peak / 1e9:.0f} GFLOP/s" for name, peak in peaks.items())
    )
    print("\n| work | baseline (s) | ours (s) | ratio | GFLOP | share of the fp32 peak | note |\n" + "|---" * 7 + "|")
    fp32 = peaks["fp32"]
    for row in rows:
        baseline = f"{row.baseline:.3f}" if row.baseline is not None else "–"
        ratio = f"{row.baseline / row.ours:.2f}" if row.baseline is not None else "–"
        share = f"{100 * row.operations / row.ours / fp32:.0f} %" if row.operations else "–"
        count = f"{row.operations / 1e9:.0f}" if row.operations else "–"
        print(f"| {row.work} | {baseline} | {row.ours:.3f} | {ratio} | {count} | {share} | {row.note} |")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
