"""The command that measures a GPU: its table, its parts' limits, and that it runs at toy size without one."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.__main__ import main, run_all
from benchmarks.gpu.plan import PARTS, Part
from benchmarks.gpu.right import choices
from benchmarks.gpu.table import Line, Table
from benchmarks.measure import Row

# A worker that hangs in one part, dies in another, and fails in a third.
WORKER = """
import json, os, sys, time
pipe = os.fdopen(int(sys.argv[sys.argv.index("--pipe") + 1]), "w")
def tell(**message):
    print(json.dumps(message), file=pipe, flush=True)
for line in sys.stdin:
    name = line.strip()
    if not name:
        break
    tell(line=dict(system=name, work="begun", found="", note="", row=None))
    if name == "hangs":
        time.sleep(600)
    if name == "dies":
        os._exit(7)
    if name == "fails":
        tell(error="ValueError: so")
    tell(done=name)
"""


def table(path: Path) -> Table:
    return Table(path, ["card: one"])


def test_the_table_tells_ratio_shares_and_real_time(tmp_path) -> None:
    made = table(tmp_path / "t.md")
    made.peaks = {"fp32": 1e12, "bf16": 4e12, "bandwidth": 1e11}
    made.add(Line("A", row=Row("work", 3.0, 1.5, 3e12, "a note", precision="bf16", audio=60.0, moved=3e10)))
    made.add(Line("A", "checked", "all | equal"))
    text = (tmp_path / "t.md").read_text()
    assert "| A | work | 3.00 s | 1.50 s | 2.00 | 50 % | 20 % | 40 | a note |" in text
    assert "| A | checked |  | all / equal |" in text
    assert "bf16 4 TFLOP/s" in text and "100 GB/s" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


@pytest.mark.slow
def test_a_part_that_hangs_dies_or_fails_stops_no_other(tmp_path) -> None:
    parts = [Part(name, "none:none", limit=1.0 if name == "hangs" else 60.0)
             for name in ("first", "hangs", "dies", "fails", "last")]  # fmt: skip
    made = table(tmp_path / "t.md")
    run_all(parts, made, time.monotonic() + 60, [sys.executable, "-c", WORKER])
    assert [line.system for line in made.lines if line.work == "begun"] == [part.name for part in parts]
    failed = {line.system: line.note for line in made.lines if line.found == "failed"}
    assert "longer than its 1 s" in failed["hangs"] and "status 7" in failed["dies"] and "so" in failed["fails"]
    assert failed.keys() == {"hangs", "dies", "fails"}


@pytest.mark.slow
def test_parts_for_which_no_time_is_left_are_lines(tmp_path) -> None:
    made = table(tmp_path / "t.md")
    run_all([Part("late", "none:none", 60.0)], made, time.monotonic() + 1, [sys.executable, "-c", WORKER])
    assert [(line.system, line.found) for line in made.lines] == [("late", "not run")]


@pytest.mark.slow
def test_it_runs_at_toy_size_without_a_gpu(tmp_path) -> None:
    chosen = ["card", "tokenising", "graphs", "loaders"]
    output = tmp_path / "out/gpu.md"
    assert main(["--toy", "--device", "cpu", "--output", str(output), "--only", *chosen]) == 0
    text = output.read_text()
    assert "measured peaks: fp32" in text and "GB/s" in text and "commit " in text
    assert "| tokens in fp32 that are the plain way's |  | 100.00 % |" in text
    assert "a GPU's: there is none here" in text and " /s |" in text and "failed" not in text
    assert "kernels" in output.with_suffix(".profile.txt").read_text()


def test_what_is_no_part_is_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--device", "cpu", "--only", "nothing"])
    assert "card, agreement" in capsys.readouterr().err
    assert list(PARTS)[-1] == "compiled"  # the dearest last


def test_choices_that_differ_are_told_from_those_that_rounding_turns() -> None:
    here = torch.tensor([[1.0, 0.5], [1.0, 0.9999999], [1.0, 0.2]], dtype=torch.float64)
    turned = torch.tensor([[1.0, 0.5000001], [0.9999999, 1.0], [1.0, 0.2]], dtype=torch.float64)
    assert choices(here, here) == "3 of 3 equal"
    assert choices(here, turned).startswith("2 of 3 equal; 1 of the 1 others within rounding")
    wrong = here.clone()
    wrong[2] = torch.tensor([0.5, 0.55])
    assert choices(here, wrong).startswith("2 of 3 equal; 0 of the 1 others")
