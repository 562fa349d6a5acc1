from __future__ import annotations

import pytest
import torch

from models.interfaces import Tokenizer, fulfils
from models.ssl_tokenizer import SSLTokenizer
from tests.toy import expected, read


def test_it_is_a_tokenizer(tokenizer) -> None:
    assert fulfils(tokenizer, Tokenizer)
    facts = (tokenizer.sample_rate, tokenizer.hop_length, tokenizer.num_codebooks, tokenizer.vocab_size)
    assert facts == (16000, 320, 6, 50)


def test_padded_batches_give_the_tokens_of_one_by_one(tokenizer) -> None:
    wavs = [read("s1", u) for u in ("utt0", "utt1", "utt2")]
    lengths = torch.tensor([w.shape[1] for w in wavs])
    padded = torch.full((3, int(lengths.max())), 0.3)  # what lies beyond a row's length must not matter
    for row, wav in enumerate(wavs):
        padded[row, : wav.shape[1]] = wav
    tokens = tokenizer.encode(padded, lengths)
    for row, wav in enumerate(wavs):
        alone = tokenizer.encode(wav)[0]
        assert torch.equal(tokens[row, : len(alone)], alone)
        assert not tokens[row, len(alone) :].any()


def test_tokens_stay_the_same_in_train_mode_and_under_autocast(tokenizer) -> None:
    clean = read("s1", "utt0", 48080)
    owner = torch.nn.Sequential(tokenizer).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(owner[0].encode(clean), expected()["l/utt0/tokens_clean"])


def test_silence_gives_tokens(tokenizer) -> None:
    assert tokenizer.encode(torch.zeros(1, 16000)).shape == (1, 49, 6)


def test_another_precision_is_used_only_when_it_is_asked_for(tokenizer) -> None:
    rough = SSLTokenizer(
        encoder=tokenizer.encoder, centroids=tokenizer.quantizer.centroids.unbind(), vocab_size=50, precision="bf16"
    )
    clean = read("s1", "utt0", 48080)
    changed = (rough.encode(clean) != tokenizer.encode(clean)).float().mean()
    assert 0 < changed < 0.5


def test_parts_that_do_not_fit_are_named(tokenizer) -> None:
    centroids = list(tokenizer.quantizer.centroids.unbind())
    with pytest.raises(ValueError, match="num_clusters is 51, but the k-means files have 50"):
        SSLTokenizer(encoder=tokenizer.encoder, centroids=centroids, vocab_size=51)
    with pytest.raises(ValueError, match="6 layers need as many codebooks, got 5"):
        SSLTokenizer(encoder=tokenizer.encoder, centroids=centroids[:5], vocab_size=50)
    with pytest.raises(ValueError, match="32 channels, the k-means centres 31"):
        SSLTokenizer(encoder=tokenizer.encoder, centroids=[c[:, :31] for c in centroids], vocab_size=50)
    with pytest.raises(ValueError, match="got 'int8'"):
        SSLTokenizer(encoder=tokenizer.encoder, centroids=centroids, vocab_size=50, precision="int8")
