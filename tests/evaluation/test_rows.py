"""Results are appended as they come, survive a kill, and are used again only where they still hold."""

from __future__ import annotations

import json
from pathlib import Path

from evaluation.rows import Rows


def row(files: str = "f", **scores: float | None) -> dict:
    done = {name: f"key-{name}" for name, value in scores.items() if value is not None}
    failed = {name: "reason" for name, value in scores.items() if value is None}
    return {"extracted": scores, "failed": {"extracted": failed}, "keys": {"extracted": {"files": files, **done}}}


def keys(*names: str) -> dict[str, str]:
    return {name: f"key-{name}" for name in names}


def test_what_is_kept_is_not_asked_for_again(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "metrics.jsonl")
    assert rows.missing("a", "extracted", "f", keys("stoi", "pesq")) == ["stoi", "pesq"]
    rows.add("a", row(stoi=0.5))
    again = Rows(tmp_path / "metrics.jsonl")
    assert again.missing("a", "extracted", "f", keys("stoi", "pesq")) == ["pesq"]
    assert again.missing("a", "mixture", "f", keys("stoi")) == ["stoi"]
    assert again.missing("a", "extracted", "other files", keys("stoi")) == ["stoi"]
    assert again.missing("a", "extracted", "f", {"stoi": "another definition"}) == ["stoi"]


def test_a_torn_last_line_is_lost_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = Rows(path)
    rows.add("a", row(stoi=0.5))
    rows.add("b", row(stoi=0.6))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])  # as by a kill
    again = Rows(path)
    assert again.missing("a", "extracted", "f", keys("stoi")) == []
    assert again.missing("b", "extracted", "f", keys("stoi")) == ["stoi"]
    again.add("b", row(stoi=0.6))
    assert Rows(path).missing("b", "extracted", "f", keys("stoi")) == []


def test_a_finished_file_has_a_row_a_name_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = Rows(path)
    rows.add("b", row(stoi=0.6))
    rows.add("a", row(stoi=0.5))
    rows.add("a", row(pesq=2.0))
    rows.add("gone", row(stoi=0.1))
    made = rows.finish(["a", "b"], lambda name, system: "f", {"c": "no output"})
    assert made == [json.loads(line) for line in path.read_text().splitlines()]
    assert [r["name"] for r in made] == ["a", "b", "c"]
    assert made[0]["extracted"] == {"stoi": 0.5, "pesq": 2.0} and made[2] == {"name": "c", "problem": "no output"}


def test_scores_of_files_that_changed_are_dropped(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "metrics.jsonl")
    rows.add("a", row(stoi=0.5))
    (made,) = rows.finish(["a"], lambda name, system: "other files", {})
    assert made == {"name": "a", "keys": {}}
    rows.add("a", row("new", pesq=1.5))
    (made,) = rows.finish(["a"], lambda name, system: "new", {})
    assert made["extracted"] == {"pesq": 1.5}  # the old stoi was another file's


def test_a_failure_takes_the_place_of_an_older_score_and_is_tried_again(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "metrics.jsonl")
    rows.add("a", row(stoi=0.5, pesq=2.0))
    rows.add("a", row(pesq=None))
    again = Rows(tmp_path / "metrics.jsonl")
    assert again.missing("a", "extracted", "f", keys("stoi", "pesq")) == ["pesq"]
    (made,) = again.finish(["a"], lambda name, system: "f", {})
    assert made["extracted"] == {"stoi": 0.5, "pesq": None} and made["failed"] == {"extracted": {"pesq": "reason"}}
    again.add("a", row(pesq=1.0))
    (made,) = again.finish(["a"], lambda name, system: "f", {})
    assert made["extracted"]["pesq"] == 1.0 and "failed" not in made


def test_lines_of_other_forms_are_left_out(tmp_path: Path) -> None:
    """A byte that is not UTF-8 ended the evaluation, and the error named no file."""
    rows = Rows(tmp_path / "metrics.jsonl")
    rows.add("a", row(stoi=0.5))
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'\xe9\xff\n[1]\n{"name": ["a"]}\n' + b"[" * 100_000 + b"\n")
    assert Rows(tmp_path / "metrics.jsonl").missing("a", "extracted", "f", keys("stoi")) == []
