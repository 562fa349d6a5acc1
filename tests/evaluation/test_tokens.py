"""The tokens that are kept of every item."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.tokens import TokenSystem, codebook_usage, is_tokenised, key, read_tokens
from utils.files import write_arrays


def test_a_damaged_file_of_tokens_is_made_again(tmp_path) -> None:
    """A truncated zip was none of the errors that were waited for, and ended the evaluation."""
    item = SimpleNamespace(stored={"tokens": tmp_path / "a.npz"}, paths={}, stamps=lambda *roles: [1, 2])
    assert not is_tokenised(item, "digest")
    write_arrays(item.stored["tokens"], {"mixture": np.arange(5000), "key": np.array(key(item, "digest"))})
    assert is_tokenised(item, "digest") and not is_tokenised(item, "of another tokenizer")
    whole = item.stored["tokens"].read_bytes()
    for damaged in (whole[:-40], b"", whole[:50]):
        item.stored["tokens"].write_bytes(damaged)
        assert not is_tokenised(item, "digest")


def test_predicted_tokens_of_another_kind_are_named_or_not_counted(tmp_path) -> None:
    """Numbers that are no integers, or no tokens of this system, came as a TypeError or as a nameless ValueError."""
    system = TokenSystem(("one", "two"), 5, "digest")
    item = SimpleNamespace(stored={"tokens": tmp_path / "a.npz", "predicted": tmp_path / "a.npy"})
    for array in (np.array([1, 2]), np.array([[7, 1]]), np.array([[-1, 1]]), np.zeros((3, 3), int)):
        np.save(item.stored["predicted"], array)
        assert codebook_usage([item], system) == {}
    np.save(item.stored["predicted"], np.array([[1, 2]]))
    assert codebook_usage([item], system)["one"]["predicted"]["perplexity"] == 1
    np.save(item.stored["predicted"], np.array([[1.0, 2.0]]))
    with pytest.raises(ValueError, match="a.npy holds float64 values; tokens are integers"):
        read_tokens(item)
