"""Sentences: many, different, and of one split only."""

from __future__ import annotations

import itertools

import pytest

from data.prepare.sentences import SPLITS, sentences, split_of, transcript


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.slow
def test_thousands_of_different_sentences_of_one_split(split):
    texts = list(itertools.islice(sentences(split, "any seed"), 3000))
    assert len({transcript(text) for text in texts}) > 2990  # the stream itself only promises different texts
    assert {split_of(text) for text in texts} == {split}
    assert all(7 <= len(text.split()) <= 23 for text in texts)
    assert all(text.isascii() and "{" not in text for text in texts)
    other = set(itertools.islice(sentences(split, "another seed"), 3000))
    assert len(other & set(texts)) < 30


def test_sentences_refuse_an_unknown_split():
    with pytest.raises(ValueError, match="'valid'"):
        next(sentences("valid", ""))


def test_transcripts_are_written_as_in_librispeech():
    assert transcript("On Monday, she couldn't find it.") == "ON MONDAY SHE COULDN'T FIND IT"
