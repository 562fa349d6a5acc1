from __future__ import annotations

import pytest
import torch

from models.tselm.network import TSELM

SIZES = dict(vocab_size=7, embedding_dim=16, fusion_layers=1, fusion_heads=2, fusion_ffn=16)
SIZES |= dict(d_model=12, num_heads=2, num_layers=1, lm_ffn=16)


def build(**more: object) -> TSELM:
    torch.manual_seed(0)
    return TSELM(**{"num_codebooks": 3, **SIZES, **more}).eval()


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 7, shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("codebooks", [1, 3, 6])
@pytest.mark.parametrize(("frames", "enrolment"), [(1, 1), (2, 9), (31, 5)])
def test_any_lengths_and_any_number_of_layers(codebooks: int, frames: int, enrolment: int) -> None:
    logits = build(num_codebooks=codebooks)(tokens(2, frames, codebooks), tokens(2, enrolment, codebooks))
    assert logits.shape == (2, frames, codebooks, 7) and logits.isfinite().all()


def test_the_rows_of_a_batch_do_not_see_each_other() -> None:
    network, mixture, enrolment = build(), tokens(3, 10, 3), tokens(3, 8, 3)
    together = network(mixture, enrolment)
    for row in range(3):
        alone = network(mixture[row : row + 1], enrolment[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)


def test_the_enrolment_matters() -> None:
    network, mixture = build(), tokens(1, 10, 3)
    assert not torch.allclose(network(mixture, tokens(1, 8, 3)), network(mixture, 6 - tokens(1, 8, 3)), atol=1e-4)


def test_mixture_and_enrolment_start_from_equal_weights_and_train_apart() -> None:
    network = build()
    table, other = network.mixture_embedding.table.weight, network.enrolment_embedding.table.weight
    assert torch.equal(table, other) and table.data_ptr() != other.data_ptr()
    pooling, other = network.mixture_pooling.state_dict(), network.enrolment_pooling.state_dict()
    assert all(torch.equal(pooling[n], other[n]) for n in pooling)


def test_an_embedding_can_begin_as_its_centroid() -> None:
    network, centroids = build(), torch.randn(3, 7, 16)
    network.embed_as(centroids)
    given = tokens(2, 5, 3)
    want = torch.stack([centroids[book][given[..., book]] for book in range(3)], dim=2)
    for embedding in (network.mixture_embedding, network.enrolment_embedding):
        assert torch.equal(embedding(given), want)
    with pytest.raises(ValueError, match=r"embeddings are \[3, 7, 16\], the centroids \[3, 7, 8\]"):
        network.embed_as(torch.randn(3, 7, 8))
    build(mix_continuous=True).embed_as(centroids)  # which has one embedding only


@pytest.mark.parametrize("continuous", [False, True])
def test_every_parameter_gets_a_gradient(continuous: bool) -> None:
    """Otherwise data parallel training would wait for ever for the ones without."""
    network = build(mix_continuous=continuous)
    network(torch.randn(2, 5, 3, 16) if continuous else tokens(2, 5, 3), tokens(2, 4, 3)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_errors_name_the_values() -> None:
    with pytest.raises(ValueError, match="got 3 heads and width 16"):
        build(fusion_heads=3)
    with pytest.raises(ValueError, match="got 5 heads and width 12"):
        build(num_heads=5)
    with pytest.raises(ValueError, match="ends at 20 frames, the mixture has 21"):
        build(max_frames=20)(tokens(1, 21, 3), tokens(1, 4, 3))


def test_published_size() -> None:
    """172.68 M parameters, as published for TSELM-L."""
    with torch.device("meta"):
        network = TSELM(
            num_codebooks=6, vocab_size=1000, embedding_dim=1024, fusion_layers=4, fusion_heads=16, fusion_ffn=1024,
            d_model=768, num_heads=16, num_layers=12, lm_ffn=2048,
        )  # fmt: skip
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(172.68, abs=0.005)
