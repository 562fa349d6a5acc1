from __future__ import annotations

import threading

import pytest

from page.line import Line, Stopped


def test_ten_are_done_one_by_one_in_their_order_and_know_their_place() -> None:
    line, gate, at_work, order = Line(), threading.Event(), [], []

    def work(number: int):
        def do(task) -> int:
            at_work.append(number)
            gate.wait(30)
            assert at_work == [number]
            order.append(number)
            at_work.remove(number)
            return number * number

        return do

    tasks = [line.add(work(number)) for number in range(10)]
    while not at_work:
        pass
    assert [line.before(task) for task in tasks] == list(range(10))
    gate.set()
    assert all(task.done.wait(30) for task in tasks)
    assert [task.result for task in tasks] == [number * number for number in range(10)]
    assert order == list(range(10))
    line.close()


def test_who_waits_or_works_is_stopped_and_an_error_is_for_its_own_task() -> None:
    line, begun = Line(most=2), threading.Event()

    def long(task) -> None:
        begun.set()
        while True:
            task.check()

    def wrong(task) -> None:
        raise ValueError("it is wrong")

    first = line.add(long)
    assert begun.wait(30)
    second, third = line.add(long), line.add(wrong)
    with pytest.raises(ValueError, match="2 are waiting already"):
        line.add(long)
    second.stop()
    assert second.done.is_set() and isinstance(second.error, Stopped)
    assert line.before(third) == 1
    first.stop()
    assert first.done.wait(30) and isinstance(first.error, Stopped)
    assert third.done.wait(30) and str(third.error) == "it is wrong"
    last = line.add(long)
    line.close()
    assert last.done.is_set() and isinstance(last.error, Stopped)
