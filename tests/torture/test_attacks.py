"""The short form of all attacks, and that each promise names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.attack import Attack, all_attacks, make
from tests.toy import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("torture")


@pytest.mark.slow
@pytest.mark.parametrize("one", all_attacks(), ids=lambda one: one.name)
def test_the_promise_holds(folder: Path, one: Attack) -> None:
    result = make(one, folder, tries=one.short)
    if result.impossible:
        pytest.skip(result.impossible)
    assert result.tried and not result.failures, "\n".join(result.failures)


def test_each_promise_names_attacks_that_are_made_and_each_attack_a_promise() -> None:
    table = (ROOT / "docs/promises.md").read_text().partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line[:2] == "| "]
    promised = {row[0].strip(): [name.strip() for name in row[2].split(";")] for row in rows[1:]}
    made: dict[str, set[str]] = {}
    for one in all_attacks():
        made.setdefault(one.promise, set()).add(one.name.split(": ")[0])
    assert {promise: set(names) for promise, names in promised.items()} == {
        promise: names for promise, names in made.items()
    }
    section = (ROOT / "README.md").read_text().partition("## What it promises\n")[2].partition("\n## ")[0]
    assert all(f"`{promise}`" in section for promise in promised), "README names each promise"
