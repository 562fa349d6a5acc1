"""The short form of all attacks, and that each promise names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.attack import Attack, all_attacks, make


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
