"""What does not fit into the memory of a GPU is done in halves."""

from __future__ import annotations

import logging

import pytest
import torch

from utils import halves


@pytest.mark.parametrize("largest", [1, 2, 3, 5, 11])
@pytest.mark.parametrize("count", [1, 2, 7, 11])
def test_all_items_are_done_once_and_in_order(count: int, largest: int, caplog) -> None:
    halves._say_so.cache_clear()
    tried = []

    def compute(part: slice) -> list[int]:
        tried.append(part.stop - part.start)
        if tried[-1] > largest:
            raise torch.OutOfMemoryError("no room")
        return list(range(count))[part]

    with caplog.at_level(logging.WARNING):
        assert [x for part in halves.in_halves(compute, count) for x in part] == list(range(count))
    assert tried[0] == count
    assert len(caplog.records) == (count > largest)  # said once, however often it happens


def test_what_does_not_fit_alone_is_an_error() -> None:
    def compute(part: slice) -> None:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        list(halves.in_halves(compute, 4))


def test_other_errors_are_not_taken_for_it() -> None:
    def compute(part: slice) -> None:
        raise RuntimeError("another")

    with pytest.raises(RuntimeError, match="another"):
        list(halves.in_halves(compute, 4))
