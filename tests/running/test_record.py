"""The record beside results, and the journal: what made each of them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from running.jobs import Job
from running.record import RunRecord, read_runs
from running.shard import Shard

SETTINGS = {"lr": "1"}


def record(
    folder: Path, made_by: str = "a", *, settings: dict = SETTINGS, shard: Shard | None = None, is_shared: bool = False
) -> RunRecord:
    notes = {"path": "here"}
    more = {"is_shared": is_shared, **({"shard": shard} if shard else {})}
    return RunRecord(folder / "record.json", {"network": made_by}, settings=settings, notes=notes, **more)


def job(folder: Path, name: str) -> Job:
    return Job(name, {"audio": str(folder / "m.wav")}, {name: {"speech": str(folder / f"{name}.wav")}})


def make(folder: Path, some: RunRecord, *names: str, overwrite: bool = False) -> None:
    """A run that does these names."""
    jobs = [job(folder, name) for name in names]
    with some.held():
        some.begin(jobs, overwrite=overwrite)
        for one in jobs:
            Path(one.files()[0]).write_text(some.made_by["network"])
            some.add(one)
        some.add_run({"files": len(jobs)})


def test_runs_are_appended_and_other_settings_refused(tmp_path) -> None:
    make(tmp_path, record(tmp_path), "x")
    make(tmp_path, record(tmp_path), "y")
    assert read_runs(tmp_path / "record.json") == [{"files": 1}, {"files": 1}]
    assert record(tmp_path).is_done(job(tmp_path, "x"))
    with pytest.raises(ValueError, match=r"another network and recipe \(lr: 1, now 2\)"):
        make(tmp_path, record(tmp_path, "b", settings={"lr": "2"}), "z")
    assert len(read_runs(tmp_path / "record.json")) == 2 and not (tmp_path / "z.wav").exists()


def test_a_folder_without_results_can_be_made_with_anything(tmp_path) -> None:
    make(tmp_path, record(tmp_path))
    make(tmp_path, record(tmp_path, "b"))
    assert read_runs(tmp_path / "record.json") == [{"files": 0}]


@pytest.mark.parametrize("listed", ["all", "some"])
def test_an_overwriting_run_cut_short_leaves_nothing_that_another_system_made(tmp_path, listed: str) -> None:
    """The old system's outputs once stayed under the new one's record, and the next run called them done."""
    make(tmp_path, record(tmp_path), "x", "y")
    new = record(tmp_path, "b")
    with new.held():
        new.begin([job(tmp_path, name) for name in (("x", "y") if listed == "all" else ("x",))], overwrite=True)
    again = record(tmp_path, "b")
    assert not again.is_done(job(tmp_path, "x")) and not again.is_done(job(tmp_path, "y"))
    assert (tmp_path / "y.wav").exists() == (listed == "some")  # what no list names stays, but counts for nothing
    make(tmp_path, again, "x")
    assert record(tmp_path, "b").is_done(job(tmp_path, "x"))


def test_a_result_that_the_journal_does_not_know_is_done_in_a_folder_of_one_system(tmp_path) -> None:
    """As a kill leaves it, between the file and its line; and as folders are that were made before journals."""
    make(tmp_path, record(tmp_path), "x")
    (tmp_path / "y.wav").write_text("a")
    assert record(tmp_path).is_done(job(tmp_path, "y"))
    with record(tmp_path).held():  # a torn line
        journal = tmp_path / "journal.record.jsonl"
        journal.write_text(journal.read_text() + '{"name": "z", "b')
    make(tmp_path, record(tmp_path), "w")
    assert record(tmp_path).is_done(job(tmp_path, "w")) and record(tmp_path).is_done(job(tmp_path, "x"))


def test_a_folder_of_before_there_were_journals_goes_on(tmp_path) -> None:
    then = {"sha256": "k", "checkpoint": "c.pth", "model": "text of a recipe", "runs": [{"files": 3}]}
    (tmp_path / "record.json").write_text(json.dumps(then))
    (tmp_path / "x.wav").write_text("sound")
    made_by = {"network": "a"}
    new = RunRecord(tmp_path / "record.json", made_by, settings={}, notes={"sha256": "k"})
    with new.held():
        new.begin([job(tmp_path, "x")], overwrite=False)
    assert new.is_done(job(tmp_path, "x")) and read_runs(tmp_path / "record.json") == [{"files": 3}]
    (tmp_path / "record.json").write_text(json.dumps(then))
    other = RunRecord(tmp_path / "record.json", made_by, settings={}, notes={"sha256": "other"})
    with other.held(), pytest.raises(ValueError, match="outputs of another checkpoint"):
        other.begin([job(tmp_path, "x")], overwrite=False)


def test_one_run_at_a_time_but_shards_beside_each_other(tmp_path) -> None:
    first, second = (record(tmp_path, shard=Shard(index, 2)) for index in (1, 2))
    with first.held(), second.held():
        for another in (record(tmp_path), record(tmp_path, shard=Shard(2, 2))):
            with pytest.raises(ValueError, match="another run is at work"), another.held():
                pass
        first.begin([], overwrite=False)
        second.begin([], overwrite=False)
        for one, name in ((first, "x"), (second, "y")):
            Path(job(tmp_path, name).files()[0]).write_text("a")
            one.add(job(tmp_path, name))
            one.add_run({"shard": str(one.shard)})
    whole = record(tmp_path)
    assert whole.is_done(job(tmp_path, "x")) and whole.is_done(job(tmp_path, "y"))
    assert [run["shard"] for run in read_runs(tmp_path / "record.json")] == ["1/2", "2/2"]


def test_a_shared_folder_takes_other_settings_under_other_names_alone(tmp_path) -> None:
    one, two = ({"settings": {"first": value}, "is_shared": True} for value in "12")
    make(tmp_path, record(tmp_path, **one), "x")
    make(tmp_path, record(tmp_path, **two), "y")
    assert record(tmp_path, **one).is_done(job(tmp_path, "x")) and record(tmp_path, **two).is_done(job(tmp_path, "y"))
    assert not record(tmp_path, **two).is_done(job(tmp_path, "x"))
    make(tmp_path, record(tmp_path, **one), "x", "z")
    make(tmp_path, record(tmp_path, **two), "y")
    for names in (["x"], ["q", "x"]):  # the last run was as this one, and x is of the other
        with pytest.raises(ValueError, match="outputs of another run"):
            make(tmp_path, record(tmp_path, **two), *names)
    with pytest.raises(ValueError, match=r"outputs of another recipe \(first: 2, now 1\)"):
        make(tmp_path, record(tmp_path, **one), "y")
    with pytest.raises(ValueError, match="outputs of another network"):
        make(tmp_path, record(tmp_path, "b", **two), "p")
    assert not any((tmp_path / f"{name}.wav").exists() for name in "pq")


def test_in_a_shared_folder_runs_wait_for_each_other(tmp_path) -> None:
    done = []

    def late() -> None:
        make(tmp_path, record(tmp_path, settings={"first": "2"}, is_shared=True), "y")
        done.append("y")

    first = record(tmp_path, settings={"first": "1"}, is_shared=True)
    with first.held():
        thread = threading.Thread(target=late)
        thread.start()
        thread.join(0.3)
        assert not done
        first.begin([job(tmp_path, "x")], overwrite=False)
        (tmp_path / "x.wav").write_text("a")
        first.add(job(tmp_path, "x"))
    thread.join(10)
    assert done == ["y"] and (tmp_path / "y.wav").exists()
    assert record(tmp_path, settings={"first": "1"}, is_shared=True).is_done(job(tmp_path, "x"))


def test_a_run_that_changes_nothing_of_the_record_does_not_write_it(tmp_path) -> None:
    make(tmp_path, record(tmp_path), "x")
    before = (tmp_path / "record.json").stat().st_mtime_ns
    make(tmp_path, record(tmp_path), "y")
    assert (tmp_path / "record.json").stat().st_mtime_ns == before


def test_what_another_run_did_after_this_one_looked_is_seen(tmp_path) -> None:
    early = record(tmp_path, "b")
    make(tmp_path, record(tmp_path), "x")
    with pytest.raises(ValueError, match="another network"):
        make(tmp_path, early, "x")
    late = record(tmp_path)
    make(tmp_path, record(tmp_path), "y")
    with late.held():
        assert late.is_done(job(tmp_path, "y")) and "y" in late.lines


def test_rows_are_kept_in_the_journal(tmp_path) -> None:
    new = record(tmp_path)
    with new.held():
        new.begin([], overwrite=False)
        new.add(Job("x", {"audio": "m"}, {"x": {}}), row={"log_likelihood": -1.5})
    assert record(tmp_path).rows() == {"x": {"log_likelihood": -1.5}} and record(tmp_path, "b").rows() == {}
    assert record(tmp_path).is_done(Job("x", {"audio": "m"}, {"x": {}}))
    assert not record(tmp_path).is_done(Job("y", {"audio": "m"}, {"y": {}}))


def test_a_file_that_is_no_record(tmp_path) -> None:
    for text in ("{", "[1]"):
        (tmp_path / "record.json").write_text(text)
        with pytest.raises(ValueError, match="record.json"):
            record(tmp_path)


def test_lines_of_a_journal_that_no_program_here_wrote_are_left_out(tmp_path) -> None:
    """Their shapes came as a TypeError."""
    make(tmp_path, record(tmp_path), "x", "y")
    other = [[1], {"name": ["x"], "by": "q"}, {"name": 5, "by": []}, {"by": record(tmp_path).by, "run": [1]}]
    other += [{"name": "y", "by": record(tmp_path).by, "file": {}, "length": 7, "row": "text"}]
    with open(tmp_path / "journal.record.jsonl", "a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in other) + "[" * 100_000 + "\n")
    again = record(tmp_path)
    assert again.is_done(job(tmp_path, "x")) and not again.lengths() and not again.rows()
    assert [run["files"] for run in read_runs(tmp_path / "record.json")] == [2]


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"settings": [1]}', '{"runs": 7}'])
def test_a_record_of_another_form_is_named(tmp_path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(ValueError, match="record.json"):
        record(tmp_path)


@pytest.mark.parametrize("what", ["folder", "empty file"])
def test_what_is_no_result_in_its_place_is_not_done(tmp_path, what: str) -> None:
    make(tmp_path, record(tmp_path), "x")
    (tmp_path / "x.wav").unlink()
    (tmp_path / "x.wav").mkdir() if what == "folder" else (tmp_path / "x.wav").touch()
    assert not record(tmp_path).is_done(job(tmp_path, "x"))


def test_a_journal_on_a_full_disk_names_its_folder(tmp_path, no_room) -> None:
    some = record(tmp_path)
    with some.held(), no_room(100), pytest.raises(OSError, match="cannot write the journal there"):
        for number in range(9):
            some.add(job(tmp_path, f"name{number}"))
    assert str(tmp_path) in record(tmp_path).path.as_posix() and len(record(tmp_path).lines) >= 1


def test_shards_of_another_list_are_told(tmp_path) -> None:
    """A file that came between two shards moved the others, and some were in none of them without a word."""
    found = []
    for index, division in ((1, "a"), (2, "a"), (3, "b"), (1, "b")):
        some = record(tmp_path, shard=Shard(index, 3))
        with some.held():
            found.append(sorted(some.divide(division)))
    assert found == [[], [], ["1/3", "2/3"], ["2/3"]]
