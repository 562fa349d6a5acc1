"""The record beside results: what made them."""

from __future__ import annotations

import pytest

from utils.run_record import RunRecord, read_record

COMPARED = {"sha256": "checkpoint", "model": "recipe"}
MADE_WITH = {"sha256": "a", "model": "m", "path": "here"}


def test_runs_are_appended_and_other_settings_refused(tmp_path) -> None:
    path = tmp_path / "record.json"
    RunRecord(path, MADE_WITH, compared=COMPARED, is_used=False).add_run({"files": 1})
    again = RunRecord(path, {**MADE_WITH, "path": "there"}, compared=COMPARED, is_used=True)
    again.add_run({"files": 2})
    assert read_record(path) == {**MADE_WITH, "path": "there", "runs": [{"files": 1}, {"files": 2}]}
    with pytest.raises(ValueError, match="another checkpoint and recipe"):
        RunRecord(path, {"sha256": "b", "model": "n"}, compared=COMPARED, is_used=True)
    assert len(read_record(path)["runs"]) == 2


def test_a_folder_without_results_can_be_made_with_anything(tmp_path) -> None:
    path = tmp_path / "record.json"
    RunRecord(path, MADE_WITH, compared=COMPARED, is_used=False).add_run({"files": 1})
    RunRecord(path, {**MADE_WITH, "sha256": "b"}, compared=COMPARED, is_used=False)
    assert read_record(path)["runs"] == []


def test_a_file_that_is_no_record(tmp_path) -> None:
    path = tmp_path / "record.json"
    for text in ("{", "[1]"):
        path.write_text(text)
        with pytest.raises(ValueError, match="record.json"):
            RunRecord(path, MADE_WITH, compared=COMPARED, is_used=True)
