"""Items that are made while others are used."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from utils.ahead import ahead


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_the_same_items_in_the_same_order(count: int) -> None:
    assert list(ahead(i * i for i in range(count))) == [i * i for i in range(count)]


def test_the_next_is_made_while_this_one_is_used() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in ahead(items()):
        if number + 1 < len(made):
            assert made[number + 1].wait(timeout=30)  # it would wait for ever if nothing were made meanwhile
        assert not any(event.is_set() for event in made[number + 2 :])  # one item ahead, not all


def test_an_error_is_raised_where_the_item_is_asked_for() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no second item")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="no second item"):
        next(coming)


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    coming = ahead(iter(range(100)))
    next(coming)
    coming.close()
    assert threading.active_count() == before
