"""The small layers: embedding, pooling, cross-attention, FiLM, frozen, losses, spectrograms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modules.cross_attention import CrossAttention
from modules.embedding import TokenEmbedding
from modules.film import FiLM
from modules.frozen import Frozen, tensor_digest
from modules.losses import token_cross_entropy, wrong_tokens
from modules.memory_order import order_inputs
from modules.pooling import LayerAttention
from modules.spectral import log_spectrogram, spectrogram_image
from tests.no_sync import TorchDispatchMode


def test_embedding_rows_and_that_the_callers_tokens_are_not_shifted() -> None:
    embedding = TokenEmbedding(num_codebooks=3, vocab_size=5, dim=2)
    tokens = torch.tensor([[[0, 0, 0], [4, 4, 4]]])
    before = tokens.clone()
    out = embedding(tokens)
    assert torch.equal(out[0], embedding.table.weight[torch.tensor([[0, 5, 10], [4, 9, 14]])])
    assert torch.equal(tokens, before)


def test_layer_attention_is_a_weighted_mean_over_layers() -> None:
    torch.manual_seed(0)
    pooling, x = LayerAttention(dim=4, hidden_dim=6), torch.randn(2, 3, 5, 4)
    same = x[:, :, :1].expand(-1, -1, 5, -1)
    torch.testing.assert_close(pooling(same), x[:, :, 0])
    w1, b1, w2 = pooling.score[0].weight, pooling.score[0].bias, pooling.score[2].weight
    scores = torch.einsum("h,bnkh->bnk", w2[0], (torch.einsum("hd,bnkd->bnkh", w1, x) + b1).relu())
    torch.testing.assert_close(pooling(x), torch.einsum("bnk,bnkd->bnd", scores.softmax(-1), x))
    torch.testing.assert_close(pooling(x[:, :, torch.randperm(5)]), pooling(x))


def test_cross_attention_does_not_depend_on_the_order_of_the_memory() -> None:
    torch.manual_seed(0)
    stack = CrossAttention(num_layers=2, dim=8, num_heads=2, ffn_dim=16)
    x, memory = torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    out = stack(x, memory)
    assert out.shape == x.shape
    torch.testing.assert_close(stack(x, memory[:, torch.randperm(7)]), out)
    torch.testing.assert_close(stack(x[:, :2], memory), out[:, :2])  # each frame asks for itself


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="got 3 and 8"):
        CrossAttention(num_layers=1, dim=8, num_heads=3, ffn_dim=16)


def test_film_has_no_one_plus() -> None:
    film = FiLM(dim=4)
    for parameter in film.parameters():
        nn.init.zeros_(parameter)
    assert not film(torch.randn(1, 2, 4), torch.randn(1, 2, 4)).any()


class _FrozenDropout(Frozen):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9))
        self.freeze()


def test_a_frozen_part_stays_in_eval_mode_whatever_its_owner_does() -> None:
    owner = nn.Sequential(nn.Linear(4, 4), _FrozenDropout())
    owner.train()
    assert owner[0].training and not any(m.training for m in owner[1].modules())
    assert not any(p.requires_grad for p in owner[1].parameters())


def test_digest_sees_every_change_but_that_of_a_name() -> None:
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(1.0)}
    changed = [
        {"a": state["a"].view(3, 2)},
        {"a": state["a"].double()},
        {"b": torch.tensor(2.0)},
        {"c": torch.zeros(1)},
    ]
    digests = [tensor_digest(state), *(tensor_digest({**state, **change}) for change in changed)]
    assert len(set(digests)) == 5
    assert tensor_digest({"x": state["b"], "y": state["a"]}) == digests[0]
    assert tensor_digest({"a": state["a"].t().contiguous().t(), "b": state["b"]}) == digests[0]


def test_cross_entropy_and_error_of_known_logits() -> None:
    tokens = torch.tensor([[[0, 1], [2, 0]]])
    certain = 100 * torch.nn.functional.one_hot(tokens, 3).float()
    assert token_cross_entropy(certain, tokens) == 0
    torch.testing.assert_close(token_cross_entropy(torch.zeros(1, 2, 2, 3), tokens), torch.tensor(3.0).log())
    assert wrong_tokens(torch.tensor([[[0, 0], [2, 1]]]), tokens).tolist() == [0.0, 2.0]


def test_spectrogram_of_a_tone_and_of_silence() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    spectrogram = log_spectrogram(tone)
    assert spectrogram[:, 60].argmax() == 1000 * 512 // 16000 and spectrogram.max() == 0
    for wav in (tone, torch.zeros(16000), torch.zeros(3)):
        image = spectrogram_image(wav)
        assert image.shape[0] == 3 and 0 <= image.min() and image.max() <= 1


class Products(TorchDispatchMode):
    """Keeps the shapes of what is multiplied batch by batch."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.bmm.default:
            self.shapes.append(tuple(args[1].shape))
        return func(*args, **(kwargs or {}))


def test_products_over_turned_inputs_copy_no_weights() -> None:
    """Without gradients, torch multiplied a [N, B, D] view frame by frame, with a copy of the weights for each."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)).requires_grad_(False)
    attention = nn.MultiheadAttention(8, 2).requires_grad_(False)
    x = torch.randn(4, 15, 8).transpose(0, 1)
    with Products() as before:
        expected = block(x) + attention(x, x.view_as(x), x.view_as(x))[0]
    order_inputs(nn.ModuleList([block, attention]))
    with Products() as after:
        out = block(x) + attention(x, x.view_as(x), x.view_as(x))[0]
    torch.testing.assert_close(out, expected)
    assert (15, 8, 8) in before.shapes and not after.shapes
