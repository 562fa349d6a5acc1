"""Doing in halves what the memory of a GPU does not hold at once."""

from __future__ import annotations

import functools
import gc
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

Result = TypeVar("Result")
log = logging.getLogger(__name__)


def in_halves(compute: Callable[[slice], Result], count: int) -> Iterator[Result]:
    """``compute(slice(0, count))``, or, where that does not fit into the memory, of its halves, and so on.

    Args:
        compute: gives the results of some of ``count`` items.

    Raises:
        torch.OutOfMemoryError: a single one does not fit.
    """
    waiting = [slice(0, count)]
    while waiting:
        part = waiting.pop()
        try:
            result = compute(part)
        except torch.OutOfMemoryError:
            if part.stop - part.start < 2:
                raise
            result = None
        if result is not None:
            yield result
            continue
        # Here, and not where the error is handled: it holds what was computed so far.
        release_memory()
        _say_so()
        middle = (part.start + part.stop) // 2
        waiting += [slice(middle, part.stop), slice(part.start, middle)]


def release_memory() -> None:
    """Give back what nothing refers to any more, also what torch keeps for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@functools.cache  # once in a process
def _say_so() -> None:
    log.warning(
        "the GPU's memory does not hold what is to be computed together: it is done in halves, which takes longer and "
        "can change the last bits of results; --override batch_seconds=... chooses less from the start"
    )
