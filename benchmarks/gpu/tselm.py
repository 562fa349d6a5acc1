"""TSELM: tokenising, a training step, extraction."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.extraction import Extracting
from benchmarks.gpu.bench import GPU_ONLY, Bench
from benchmarks.measure import Row, once
from benchmarks.tokenizing import Tokenizing
from benchmarks.training import Training

NAME = "TSELM"


def tokenizing(bench: Bench, *, batch: int) -> Tokenizing:
    return Tokenizing(
        *bench.parts(), toy=bench.toy, device=bench.device, batch=batch, seconds=2.0 if bench.toy else 11.0
    )


def tokenising(bench: Bench) -> None:
    made = tokenizing(bench, batch=2 if bench.toy else 32)
    bench.found(NAME, "tokens in fp32 that are the plain way's", f"{100 * made.same():.2f} %")
    plain = None
    for precision in reversed(bench.precisions):
        with bench.apart(NAME, f"tokenising, {precision}"):
            row = made.row(precision, repeats=bench.repeats, plain_seconds=plain)
            plain = row.baseline
            bench.speed(NAME, row, made.way(precision))


def training(bench: Bench) -> None:
    made = Training(*bench.parts(), toy=bench.toy, device=bench.device, batch=2 if bench.toy else 32)
    plain = None
    for precision in ("bf16", "fp32", *(["tf32", "fp16"] if bench.is_cuda else [])):
        with bench.apart(NAME, f"training step, {precision}"):
            step = made.step(precision)
            row = made.row(precision, step, repeats=bench.repeats, plain_seconds=plain)
            plain = row.baseline
            if bench.is_cuda:
                most = torch.cuda.max_memory_allocated(bench.device) / 2**30
                row = replace(row, note=f"{most:.1f} GiB of the GPU's at most so far")
            bench.speed(NAME, row, step)
            if precision == "bf16":
                bench.remember("items_per_second", len(made.batch["mixture"]) / row.ours)
            del step


def extraction(bench: Bench) -> None:
    """Of 60 s, in ever larger batches: what waits for the host, and what for the card."""
    made = Extracting(*bench.parts(), toy=bench.toy, device=bench.device, seconds=4.0 if bench.toy else 60.0)
    low = ["tokenizer_precision=bf16", "inference_precision=bf16"]
    variants = {
        "aligned, 8 s pieces, bf16": low,
        "the same, all pieces at once": [*low, "batch_seconds=80"],
        "aligned, 12 s pieces, all at once, bf16": [*low, "piece_seconds=12", "batch_seconds=80"],
        "aligned, 8 s pieces, fp32": [],
        "published chunking, fp32": ["chunking=published"],
    }
    plain_seconds = None
    for name, keys in variants.items():
        with bench.apart(NAME, f"extracting, {name}"):
            plain, ours = made.ways(keys)
            row = made.row(name, plain_seconds or plain, ours, repeats=1 if bench.toy else bench.repeats)
            plain_seconds = row.baseline
            bench.speed(NAME, row, ours)


def graphs(bench: Bench) -> None:
    """One CUDA graph of tokenising, against launching each kernel."""
    work = "tokenising, as a CUDA graph against each kernel launched"
    if not bench.is_cuda:
        bench.found(NAME, work, GPU_ONLY)
        return
    for batch in (1, 32):
        with bench.apart(NAME, work):
            made = tokenizing(bench, batch=batch)
            eager = made.way("bf16")
            graph = torch.cuda.CUDAGraph()
            stream = torch.cuda.Stream(bench.device)
            stream.wait_stream(torch.cuda.current_stream(bench.device))
            with torch.cuda.stream(stream):
                eager(), eager()
            torch.cuda.current_stream(bench.device).wait_stream(stream)

            def capture(graph=graph, eager=eager) -> None:
                with torch.cuda.graph(graph):
                    capture.tokens = eager()

            taken = once(capture, device=bench.device)
            seconds = bench.side_by_side(eager, graph.replay)
            note = f"captured in {taken:.1f} s; tokens equal: {torch.equal(capture.tokens, eager())}"
            work = f"tokenising {batch} x {made.seconds:g} s, bf16, as a CUDA graph against each kernel launched"
            bench.speed(NAME, Row(work, *seconds, note=note, precision="bf16", audio=batch * made.seconds))


def compiled(bench: Bench) -> None:
    """What torch.compile makes of tokenising, and how long it takes to."""
    if not bench.is_cuda:
        bench.found(NAME, "tokenising, compiled", GPU_ONLY)
        return
    made = tokenizing(bench, batch=32)
    taken = once(made.way("bf16", compiled=True), device=bench.device)
    row = made.row("bf16", compiled=True, repeats=bench.repeats)
    bench.speed(NAME, replace(row, note=f"compiled in {taken:.0f} s; {row.note}"))
    bench.keep_profile(f"{NAME}: {row.work}", made.way("bf16", compiled=True))
