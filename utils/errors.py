"""Errors as users meet them: one line for what they can mend, the whole traceback for a fault of ours."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# A wrong value, a missing or unreadable file, a training that diverges. Everything else is a fault of the program.
USER_ERRORS = (ValueError, OSError, FloatingPointError)
# The exit status of a program that was asked to stop, and did.
STOPPED = 130
# The exit status of a training whose loss or gradient was no longer finite.
DIVERGED = 3
log = logging.getLogger(__name__)


class Diverged(FloatingPointError):
    """A training has come to values that are not finite; going on would train nothing."""


@dataclass
class Outcome:
    status: int = 0


@contextlib.contextmanager
def report_errors(debug: bool = False, *, delay: float = 0.0) -> Iterator[Outcome]:
    """Report the errors that users can mend as ``error: ...`` with exit status 2, with their traceback if ``debug``.

    A training that has diverged ends with 3. The log file, where there is one, gets the traceback of every error.

    Args:
        delay: seconds to wait first. Of several processes with the same error, one should tell it: the others give it
            the time to do so, and are ended meanwhile.
    """
    outcome = Outcome()
    try:
        yield outcome
    except (*USER_ERRORS, MemoryError) as error:
        time.sleep(delay)
        log.debug("where it failed:", exc_info=True)
        if debug:
            traceback.print_exc()
        kind = "there is not enough memory: " if isinstance(error, MemoryError) else ""
        print(f"error: {kind}{describe(error)}", file=sys.stderr, flush=True)
        outcome.status = DIVERGED if isinstance(error, Diverged) else 2
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr, flush=True)
        outcome.status = STOPPED
    except Exception:
        log.debug("a fault of the program:", exc_info=True)
        raise


def refuse_empty(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End as the parser does if an argument is an empty text, which would be taken for the current folder."""
    if empty := [name for name, value in vars(arguments).items() if value == ""]:
        parser.error(f"--{', --'.join(empty)}: an empty text was given; is a variable of the shell not set?")


def describe(error: BaseException) -> str:
    """The message of an error; an OSError says which file, and a bare one which kind it is."""
    return str(error) or type(error).__name__


def first_few(items: Iterable[object], shown: int = 5) -> str:
    """The first few of many, and how many more there are."""
    items = [str(item) for item in items]
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more
