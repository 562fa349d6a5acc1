"""Errors as users meet them, and where their tracebacks are kept."""

from __future__ import annotations

import logging
import sys

import pytest

from utils.errors import DIVERGED, Diverged, report_errors
from utils.logging import setup_console


@pytest.fixture
def log_file(tmp_path):
    before = list(logging.root.handlers), logging.root.level
    setup_console(file=tmp_path / "train.log")
    yield tmp_path / "train.log"
    for handler in set(logging.root.handlers) - set(before[0]):
        handler.close()
    logging.root.handlers, logging.root.level = before


def fail_in_a_constructor() -> None:
    raise ValueError("num_heads must divide d_model")


def test_the_log_file_has_the_place_of_an_error_that_is_one_line(log_file, capsys) -> None:
    """An error inside a constructor of a recipe was one line without the place."""
    with report_errors() as outcome:
        fail_in_a_constructor()
    assert outcome.status == 2
    assert capsys.readouterr().err == "error: num_heads must divide d_model\n"
    text = log_file.read_text()
    assert "Traceback" in text and "in fail_in_a_constructor" in text


def test_a_fault_of_the_program_is_in_the_log_file_too(log_file, capsys) -> None:
    with pytest.raises(ZeroDivisionError), report_errors():
        print(1 / 0, file=sys.stderr)
    assert "ZeroDivisionError" in log_file.read_text() and capsys.readouterr().err == ""


def test_a_divergence_has_its_own_exit_status(capsys) -> None:
    with report_errors() as outcome:
        raise Diverged("the loss is nan")
    assert outcome.status == DIVERGED == 3 and "error: the loss is nan" in capsys.readouterr().err


def test_too_little_memory_is_one_line(capsys) -> None:
    with report_errors() as outcome:
        raise MemoryError("Unable to allocate 3 TiB")
    assert outcome.status == 2 and capsys.readouterr().err == (
        "error: there is not enough memory: Unable to allocate 3 TiB\n"
    )
