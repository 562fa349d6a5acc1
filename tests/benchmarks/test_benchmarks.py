"""Every benchmark runs, at toy size, and prints its table. What it prints is not judged: machines differ."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess

import pytest
import torch

from benchmarks import measure
from benchmarks.loading import WholeFiles, write_corpus
from benchmarks.measure import Row, matmul_peak, show, side_by_side
from data.extraction import OnTheFlyMixtures
from tests.toy import run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [
        ("tokenizing", ("--seconds", "1"), ("fp32", "bf16")),
        ("training", ("--batch", "2"), ("fp32", "bf16")),
        ("extraction", ("--seconds", "4"), ("published chunking", "aligned")),
        ("codec", ("--seconds", "1", "--files", "3"), ("encode 1 x 1 s", "decode 3 files")),
        ("resynthesis", ("--seconds", "1.28", "--batch", "2"), ("decode 1 x 1.28 s", "F0 of a crop", "training step")),
        (
            "units",
            ("--frames", "100"),
            ("search, 100 frames", "5% of the units", "100 frames against 200", "WavLM to layer"),
        ),
        ("generation", ("--tokens", "60", "--batch", "3"), ("unit LM, 3 x 60", "ELLA-V, 3 x 60")),
        ("limuse", ("--seconds", "0.5"), ("K=16: extract 0.5 s", "K=16, 3 bits: train a clip")),
        ("lists", ("--files", "3", "--seconds", "2"), ("1 process", "2 processes")),
        ("loading", ("--step_seconds", "1"), ("training items", "1 worker", "2 workers")),
    ],
)
def test_a_benchmark_runs_at_toy_size(capsys, name: str, options: tuple, rows: tuple) -> None:
    threads = torch.get_num_threads()
    try:
        assert importlib.import_module(f"benchmarks.{name}").main(["--toy", "--repeats", "1", *options]) == 0
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    for row in rows:
        assert re.search(rf"^\|.*{row}.*\| \d+\.\d+ \|", printed, flags=re.MULTILINE), printed
    if name in ("tokenizing", "codec", "units"):
        assert "baseline's: 100.00 %" in printed
    if name == "generation":
        assert printed.count("tokens that are the plain way's: 100.00 %") == 2
    if name == "extraction":
        assert float(re.search(r"largest difference (\S+)", printed)[1]) < 1e-4
    if name == "loading":
        assert re.search(r"^\| decoding alone \| – \| \d+ \| – \| \d+ % of the time", printed, flags=re.MULTILINE)
        assert re.search(
            r"a GPU takes 128 items/s; GPUs that are fed: .*2 workers: \d+\.\d$", printed, flags=re.MULTILINE
        )


@pytest.mark.slow
def test_memory_is_measured_for_each_length(capsys) -> None:
    threads = torch.get_num_threads()
    try:
        assert importlib.import_module("benchmarks.memory").main(["--toy", "--minutes", "0.1", "0.2"]) == 0
    finally:
        torch.set_num_threads(threads)
    assert re.findall(r"^\| (\S+) minutes \| \d+ \| \d\.\d\d \|", capsys.readouterr().out, flags=re.MULTILINE) == [
        "0.1",
        "0.2",
    ]


def test_items_read_by_seeking_are_those_cut_from_whole_files(tmp_path) -> None:
    index = write_corpus(tmp_path, seconds=4.5)
    ours = OnTheFlyMixtures(speakers=index, epoch_num=8, mix_length=48080, regi_length=64080)
    for number in range(8):
        item, whole = ours[3, number], WholeFiles(ours)[3, number]
        assert item.keys() == whole.keys() and all(torch.equal(item[name], whole[name]) for name in item)


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="two nodes need root and the ip command of iproute2"
)
def test_two_nodes_train_as_one() -> None:
    done = run("-m", "benchmarks.two_nodes", timeout=400)
    if "Operation not permitted" in done.stderr:
        pytest.skip("this machine allows no network namespaces")
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout and run_ip() == ""


def run_ip() -> str:
    """The namespaces that were left behind."""
    found = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return "".join(line for line in found.splitlines() if line.startswith("tse-"))


@pytest.mark.slow
def test_two_ways_are_run_in_turns() -> None:
    calls = []
    device = torch.device("cpu")
    slow, quick = side_by_side(lambda: calls.append("a"), lambda: calls.append("b"), device=device, repeats=3)
    assert calls == ["a", "b"] * 4 and slow >= 0 and quick >= 0


@pytest.mark.parametrize(("rate", "largest"), [(1e9, 512), (70e9, 2048)])
def test_a_peak_is_found_in_little_time_where_products_are_slow(monkeypatch, rate: float, largest: int) -> None:
    """On a processor with AVX2 alone, six bf16 products of full size took two minutes."""
    sizes, whole = [], []

    def once(function, *, device) -> float:
        sizes.append(function.__defaults__[0].shape[0])
        whole.append(1e-5 + 2 * sizes[-1] ** 3 / rate)
        return whole[-1]

    monkeypatch.setattr(measure, "once", once)
    assert 0.9 * rate < matmul_peak(torch.device("cpu"), torch.bfloat16) <= rate
    assert max(sizes) == largest and sum(whole) < 5


def test_the_table_tells_the_ratio_and_the_share_of_the_peak(capsys) -> None:
    show([Row("work", 3.0, 1.5, operations=6e9)], peaks={"fp32": 8e9, "bf16": 1e10})
    assert "| work | 3.000 | 1.500 | 2.00 | 6 | 50 % |" in capsys.readouterr().out
