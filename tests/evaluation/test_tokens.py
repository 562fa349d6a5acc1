"""The tokens that are kept of every item."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from evaluation.tokens import is_tokenised, key
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
