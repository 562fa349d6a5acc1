"""Arrays of other hands."""

from __future__ import annotations

import io
import os
import pickle

import numpy as np
import pytest

from data import arrays
from tests.toy import Payload


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n"


def bare(shape: str) -> bytes:
    return header(f"{{'descr': '<i2', 'fortran_order': False, 'shape': {shape}, }}")


def zipped() -> bytes:
    made = io.BytesIO()
    np.savez(made, a=np.zeros(3))
    return made.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"1 2 3", zipped(), bare("(4, 6)"), bare("(1000000000000, 6)"), bare("(-1, 6)"), bare("(True, 6)"),
        bare("(9223372036854775807, 9223372036854775807)"), bare("()"), header("(" * 5000 + ")" * 5000),
        header("__import__('os').getcwd()"), pickle.dumps([1]),
    ],
)  # fmt: skip
def test_what_is_no_array_is_said_in_a_line_that_names_it(tmp_path, content: bytes) -> None:
    """Of what is no .npy file, NumPy's own words are how to load it unsafely."""
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    for read in (arrays.rows, arrays.read):
        with pytest.raises(ValueError, match="x.npy") as error:
            read(path)
        assert "\n" not in str(error.value) and "allow_pickle" not in str(error.value)


def test_nothing_in_an_array_file_runs(tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.array([Payload(tmp_path / "ran")]), allow_pickle=True)
    with pytest.raises(ValueError, match="x.npy"):
        arrays.read(tmp_path / "x.npy")
    assert os.listdir(tmp_path) == ["x.npy"]
