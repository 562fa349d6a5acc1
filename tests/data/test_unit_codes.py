"""Units and codes of the same recordings as sequences."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from data.unit_codes import UnitCodes
from models.dpslm.sequence import Interleaving


def write(folder: Path, **files: int) -> Path:
    """Of each name so many frames of units, and four fifths of codes."""
    for name, frames in files.items():
        for kind, values in (("units", np.arange(frames) // 3 % 5), ("codes", np.arange(frames * 4 // 5) % 7)):
            (folder / kind).mkdir(exist_ok=True)
            np.save(folder / f"{kind}/{name}.npy", values.astype(np.int16)[:, None])
    return folder


def data(folder: Path, **settings: object) -> UnitCodes:
    interleave = Interleaving(num_clusters=5, num_codes=7)
    return UnitCodes(units=folder / "units", codes=folder / "codes", interleave=interleave, **settings)


def test_an_item_is_the_sequence_of_an_utterance(tmp_path: Path) -> None:
    item = data(write(tmp_path, a=10))[0]
    # units 0 1 2 3, BOS, and each with its codes and EOP, EOS; symbols: 4 + u, 4 + 5 + c
    assert item["symbols"][:5].tolist() == [4, 5, 6, 7, 1] and item["symbols"][-1] == 3
    assert len(item["symbols"]) == 3 * 4 + 2 + 8 and item["frames"] == 8
    assert int(item["is_target"].sum()) == 8 + 4 + 1


def test_an_utterance_that_is_too_long_is_left_out_and_named(tmp_path: Path, caplog) -> None:
    write(tmp_path, short=10, long=100)
    with caplog.at_level(logging.WARNING):
        assert len(data(tmp_path, max_ids=40)) == 1
    assert "1 of 2" in caplog.text and "long" in caplog.text
    with pytest.raises(ValueError, match="max_ids"):
        data(tmp_path, max_ids=5)


def test_files_without_a_counterpart_are_named(tmp_path: Path) -> None:
    write(tmp_path, a=10, b=10)
    (tmp_path / "codes/b.npy").unlink()
    with pytest.raises(ValueError, match=r"b\.npy"):
        data(tmp_path)


def test_another_duration_is_named(tmp_path: Path) -> None:
    write(tmp_path, a=10, b=30)
    np.save(tmp_path / "codes/b.npy", np.zeros(12, np.int16))
    with pytest.raises(ValueError, match=r"b\.npy.*0\.1 s"):
        data(tmp_path)
