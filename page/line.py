"""Work that is done one by one, in the order in which it was asked for; who waits can see the place."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any


class Stopped(Exception):
    """The work was asked to stop, and did."""


class Task:
    """One piece of work.

    Attributes:
        progress: how far it is, in [0, 1].
        doing: what it does at the moment.
        result, error: when it is finished, one of the two; an error of ``Stopped`` if it was stopped.
        seconds: that it took since its turn came.
    """

    def __init__(self, work: Callable[[Task], Any], leave: Callable[[Task], None]):
        self._work, self._leave = work, leave
        self._stop = threading.Event()
        self.done = threading.Event()
        self.begun: float | None = None
        self.progress = 0.0
        self.doing = ""
        self.result: Any = None
        self.error: BaseException | None = None
        self.seconds = 0.0

    def stop(self) -> None:
        """Ask it to end at its next ``check``; if its turn has not come, it ends here."""
        self._stop.set()
        self._leave(self)

    def check(self) -> None:
        """Raise ``Stopped`` if that was asked for: to be called often by the work."""
        if self._stop.is_set():
            raise Stopped

    def run(self) -> None:
        self.begun = time.perf_counter()
        try:
            self.check()
            self.result = self._work(self)
        except BaseException as error:  # whoever asked for the work is told
            self.error = error
        self.seconds = time.perf_counter() - self.begun
        self.done.set()


class Line:
    """A thread that does one task after the other.

    Args:
        most: that may wait; more are refused.
    """

    def __init__(self, *, most: int = 50):
        self.most = most
        self._waiting: deque[Task] = deque()
        self._now: Task | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)
        self._thread.start()

    def add(self, work: Callable[[Task], Any]) -> Task:
        """Put work at the end of the line.

        Raises:
            ValueError: too many wait already.
        """
        task = Task(work, self._leave)
        with self._changed:
            if len(self._waiting) >= self.most:
                raise ValueError(f"{self.most} are waiting already, which is the most: try again in a while")
            self._waiting.append(task)
            self._changed.notify_all()
        return task

    def before(self, task: Task) -> int:
        """How many come before a task: 0 if it is being done, or was."""
        with self._changed:
            if task not in self._waiting:
                return 0
            return self._waiting.index(task) + (self._now is not None)

    def _leave(self, task: Task) -> None:
        with self._changed:
            if task not in self._waiting:
                return
            self._waiting.remove(task)
        task.run()  # it ends by its first check

    def close(self, *, seconds: float = 10.0) -> None:
        """Stop everything, and wait so long for what is being done."""
        with self._changed:
            self._closed = True
            tasks = [*self._waiting, *([self._now] if self._now else [])]
            self._changed.notify_all()
        for task in tasks:
            task.stop()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                self._now = self._waiting.popleft()
            self._now.run()
            with self._changed:
                self._now = None
