"""A list in parts, each done by a run of its own: a job array of a cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """The i-th of n parts of a list, i from 1, each done by a run of its own."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``i/n``.

        Raises:
            ValueError: it is not of that form.
        """
        index, separator, count = text.partition("/")
        if not separator or not (index.isdecimal() and count.isdecimal()) or not 1 <= int(index) <= int(count):
            raise ValueError(f"a shard is i/n, with i from 1 to n, got {text!r}")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, position: int) -> bool:
        """Whether what stands at a position, counted from 0, is in it."""
        return position % self.count == self.index - 1


WHOLE = Shard()
