"""The toy system's making: what it runs, and that it goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import toy
from tests.toy import run


def test_the_interferer_is_enrolled_with_another_file_in_which_it_is_the_target() -> None:
    names = ["1-1-0_2-1-0.wav", "2-1-0_3-1-0.wav", "3-1-0_9-1-0.wav", "2-1-1_1-1-0.wav"]
    found = toy.enrolments_of_interferers({name: Path(f"aux/{name}") for name in names})
    assert names[2] not in found  # nobody has an enrolment of speaker 9
    assert found[names[1]] == Path(f"aux/{names[2]}") and found[names[3]] == Path(f"aux/{names[0]}")
    assert found[names[0]].name.startswith("2-")


def test_a_stage_is_done_once_and_its_time_is_kept(tmp_path) -> None:
    made = toy.Toy(tmp_path, hours=1, gpus="cpu", changes=[])
    done = []

    def fail() -> None:
        done.append("tried")
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        made.once("stage", fail)
    before = json.loads((tmp_path / "stages.json").read_text())["stage"]
    assert not before["done"]
    made.once("stage", lambda: done.append("worked"))
    made.once("stage", lambda: done.append("again"))
    after = json.loads((tmp_path / "stages.json").read_text())["stage"]
    assert done == ["tried", "worked"] and after["done"] and after["seconds"] >= before["seconds"]


def test_an_unknown_stage_is_named(tmp_path) -> None:
    done = run("toy.py", "--output", tmp_path, "--until", "encodr")
    assert done.returncode == 2 and "encodr" in done.stderr and "encoder" in done.stderr
    assert not list(tmp_path.iterdir())
