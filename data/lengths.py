"""How long many files are, with what was found before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

from data import audio
from data.containers import stamped
from data.resampling import resampled_length

_THREADS = 8  # which wait for a disk together; the work itself is small
_SHARE = 64  # files that a thread takes at once


class Length(NamedTuple):
    """What one file is, as long as its size and time of change stay. A row of numbers, also in JSON."""

    size: int
    changed: int
    samples: int
    sample_rate: int

    def at(self, sample_rate: int) -> int:
        """Samples at another rate: what ``audio.num_samples`` gives."""
        return resampled_length(self.samples, self.sample_rate, sample_rate)


def measure(
    paths: Iterable[str | os.PathLike], *, known: Mapping[str, Iterable[int]] | None = None
) -> tuple[dict[str, Length], dict[str, str]]:
    """The lengths of audio files, from their headers.

    Args:
        paths: each is measured once.
        known: what this function returned before, also from JSON: files that have not changed since are not opened.

    Returns:
        path -> its length; and path -> why it cannot be read.
    """
    known = known or {}

    def one(path: str) -> Length | str:
        try:
            _, size, changed = stamped(path)
            if path in known and len(kept := tuple(known[path])) == len(Length._fields):
                before = Length(*kept)
                if (before.size, before.changed) == (size, changed):
                    return before
            found = audio.header(path)
            return Length(size, changed, found.samples, found.sample_rate)
        except (ValueError, OSError) as error:
            return str(error)

    unique = list(dict.fromkeys(map(os.fspath, paths)))
    shares = [unique[start : start + _SHARE] for start in range(0, len(unique), _SHARE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        answers = chain.from_iterable(pool.map(lambda share: [one(path) for path in share], shares))
        found = dict(zip(unique, answers, strict=True))
    lengths = {path: what for path, what in found.items() if isinstance(what, Length)}
    return lengths, {path: what for path, what in found.items() if isinstance(what, str)}
