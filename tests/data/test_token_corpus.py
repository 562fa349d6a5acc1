"""A folder of token files as one flat array."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from data.token_corpus import TokenCorpus, provenance, shared_provenance


def folder(where: Path, **files: list[int]) -> Path:
    for name, tokens in files.items():
        path = where / f"{name.replace('_', '/')}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.array(tokens, np.int16)[:, None])
    return where


def test_files_are_in_the_order_of_their_paths(tmp_path: Path) -> None:
    corpus = TokenCorpus(folder(tmp_path, b_x=[1, 2], a_y=[3], a_x=[4, 5, 6]), vocab_size=7)
    assert corpus.names == ["a/x", "a/y", "b/x"] and len(corpus) == 3
    assert [corpus[i].tolist() for i in range(3)] == [[4, 5, 6], [3], [1, 2]]
    assert corpus.tokens.dtype == np.uint16 and corpus[0].dtype == np.int64


def test_what_was_read_is_kept_and_made_anew_when_a_file_changes(tmp_path: Path, monkeypatch) -> None:
    folder(tmp_path, a=[1, 2], b=[3])
    TokenCorpus(tmp_path, vocab_size=9)
    reads = []
    monkeypatch.setattr("data.arrays.read_tokens", lambda path, read=reads: read.append(path))
    assert TokenCorpus(tmp_path, vocab_size=9)[0].tolist() == [1, 2] and not reads
    monkeypatch.undo()
    np.save(tmp_path / "b.npy", np.array([4, 5, 6, 7], np.int16))
    assert TokenCorpus(tmp_path, vocab_size=9)[1].tolist() == [4, 5, 6, 7]
    assert len(list((tmp_path / ".corpus").iterdir())) == 2  # of the folder as it is alone


def test_a_torn_copy_is_made_anew(tmp_path: Path) -> None:
    TokenCorpus(folder(tmp_path, a=[1, 2, 3]), vocab_size=9)
    kept = next((tmp_path / ".corpus").glob("*.tokens"))
    kept.write_bytes(kept.read_bytes()[:2])
    assert TokenCorpus(tmp_path, vocab_size=9)[0].tolist() == [1, 2, 3]


def test_a_folder_that_cannot_be_written_is_read_anyway(tmp_path: Path, monkeypatch) -> None:
    folder(tmp_path, a=[1])

    def full(path: Path) -> None:
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr("data.token_corpus.whole_file", full)
    assert TokenCorpus(tmp_path, vocab_size=9)[0].tolist() == [1]


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2), np.int16), np.zeros(0, np.int16), np.array([9], np.int16), np.array([-1], np.int16), np.ones(2)],
)
def test_what_holds_no_tokens_is_named(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(ValueError, match=r"bad\.npy"):
        TokenCorpus(tmp_path, vocab_size=9)


def test_folders_without_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no .npy files"):
        TokenCorpus(tmp_path, vocab_size=9)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TokenCorpus(tmp_path / "nowhere", vocab_size=9)


def test_folders_that_were_made_differently_are_refused_with_both_values(tmp_path: Path) -> None:
    for name, lmbda in (("train", 3.0), ("valid", 5.0)):
        (tmp_path / name).mkdir()
        record = {"lmbda": lmbda, "tokenizer": "abc", "settings": {"x": name}, "recipe": name}
        (tmp_path / name / "tokens.json").write_text(json.dumps(record))
    pair = {"units": (tmp_path / "train", tmp_path / "valid")}
    with pytest.raises(ValueError, match=r"lmbda is 3\.0 and 5\.0"):
        shared_provenance(pair)
    (tmp_path / "valid/tokens.json").unlink()
    assert shared_provenance(pair) == {"units": {"lmbda": 3.0, "tokenizer": "abc"}} and provenance(tmp_path) == {}
