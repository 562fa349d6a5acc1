"""Codebooks in training: their gradient, and how well they are used."""

from __future__ import annotations

import pytest
import torch

from modules.codebook_use import histogram, perplexity, usage
from tests.kmeans import books_at


def test_the_gradients_are_sums_over_the_frames_of_each_centre() -> None:
    torch.manual_seed(0)
    features, mask = [torch.randn(3, 20, 4) for _ in range(2)], torch.rand(3, 20) > 0.3
    books = books_at(torch.randn(7, 4), torch.randn(7, 4))
    tokens = books.assign(features)
    losses = books(features, tokens, mask)
    losses.sum().backward()
    for k, x in enumerate(features):
        codes, frames = tokens[..., k][mask], x[mask]
        distances = (frames - books.centres[k].detach()[codes]).square().sum()
        torch.testing.assert_close(losses[k].detach(), distances / 2 / 3)
        for v in range(7):
            mine = frames[codes == v]
            want = (len(mine) * books.centres[k, v].detach() - mine.sum(0)) / 3
            torch.testing.assert_close(books.centres.grad[k, v], want, rtol=1e-5, atol=1e-5)
            assert float(books.counts.grad[k, v]) == pytest.approx(len(mine) / 3)
    torch.testing.assert_close(histogram(tokens[mask], 7) / 3, books.counts.grad)


def test_the_clustering_is_float32_whatever_is_around_it() -> None:
    torch.manual_seed(0)
    features, mask, found = [torch.randn(2, 50, 32)], torch.ones(2, 50, dtype=torch.bool), []
    for enabled in (False, True):
        books = books_at(torch.arange(1600.0).view(50, 32).sin())
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = books(features, books.assign(features), mask).sum()
        loss.backward()
        found.append((loss.detach(), books.centres.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_the_chunk_changes_nothing_but_memory() -> None:
    torch.manual_seed(0)
    features, centres = [torch.randn(3, 50, 8)], torch.randn(11, 8)
    whole, parts = (books_at(centres, chunk=chunk).assign(features) for chunk in (8192, 7))
    assert torch.equal(whole, parts)


def test_usage_and_perplexity() -> None:
    counts = torch.tensor([[1.0, 1, 1, 1], [4, 0, 0, 0], [100, 100, 0.1, 0], [0, 0, 0, 0]])
    assert usage(counts).tolist() == [100, 25, 50, 0]
    torch.testing.assert_close(perplexity(counts), torch.tensor([4.0, 1, 2, 1]), rtol=5e-3, atol=0)
