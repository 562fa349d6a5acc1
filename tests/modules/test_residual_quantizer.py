"""The residual quantiser against small independent computations: gradients, averages, dead codes, start, processes."""

from __future__ import annotations

import copy
import threading

import pytest
import torch

from modules.lloyd import k_means
from modules.residual_quantizer import ResidualQuantizer

K, V, D = 3, 8, 4


def quantizer(seed: int = 0, **settings: object) -> ResidualQuantizer:
    generator = torch.Generator().manual_seed(seed)
    made = ResidualQuantizer(num_codebooks=K, vocab_size=V, dim=D, **{"dead_code_share": 0.0, **settings})
    made.embed.copy_(torch.randn(K, V, D, generator=generator) * torch.tensor([1.0, 0.5, 0.25])[:, None, None])
    made.cluster_size.copy_(torch.rand(K, V, generator=generator) + 1)
    made.embed_avg.copy_(made.embed * made.cluster_size[..., None])
    made.inited.fill_(1)
    return made


def latents(frames: int = 30, seed: int = 1) -> torch.Tensor:
    return torch.randn(2, frames // 2, D, generator=torch.Generator().manual_seed(seed))


def by_hand(x: torch.Tensor, embed: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Tokens [..., K], the residual before each codebook, and its row."""
    left, tokens, residuals, rows = x.double(), [], [], []
    for book in embed.double():
        token = (left[..., None, :] - book).square().sum(-1).argmin(-1)
        residuals.append(left)
        rows.append(book[token])
        tokens.append(token)
        left = left - book[token]
    return torch.stack(tokens, -1), residuals, rows


def test_tokens_are_the_nearest_rows_of_what_is_left() -> None:
    made, x = quantizer(), latents()
    tokens, _, rows = by_hand(x, made.embed)
    found = made(x)
    assert torch.equal(found.tokens, tokens) and torch.equal(made.encode(x), tokens)
    assert torch.equal(made.encode(x, 2), tokens[..., :2])
    torch.testing.assert_close(found.sum.double(), sum(rows), rtol=0, atol=1e-6)
    torch.testing.assert_close(made.dequantise(tokens[..., 1:], 1).double(), rows[1] + rows[2], rtol=0, atol=1e-6)
    torch.testing.assert_close(found.first.double(), rows[0], rtol=0, atol=1e-6)


def test_of_equal_rows_the_first_is_taken() -> None:
    made = quantizer()
    made.embed[0, 5] = made.embed[0, 2]
    assert made.encode(made.embed[0, 5])[0] == 2


def test_the_commitment_reaches_the_latents_from_every_codebook() -> None:
    made, x = quantizer(), latents().requires_grad_()
    found = made(x)
    _, residuals, rows = by_hand(x.detach(), made.embed)
    value = sum((r - e).square().mean() for r, e in zip(residuals, rows, strict=True)) / K
    torch.testing.assert_close(found.commitment.double(), value)
    (gradient,) = torch.autograd.grad(found.commitment, x)
    wanted = sum(2 * (r - e) for r, e in zip(residuals, rows, strict=True)) / (K * x.numel())
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-8)


def test_the_decoders_gradient_goes_straight_through_once() -> None:
    made, x = quantizer(), latents().requires_grad_()
    found = made(x)
    weight = torch.randn_like(x)
    for output in (found.sum, found.first):
        (gradient,) = torch.autograd.grad((output * weight).sum(), x, retain_graph=True)
        assert torch.equal(gradient, weight)


def test_codes_follow_the_average_of_their_residuals() -> None:
    made, x = quantizer(decay=0.9), latents()
    before = copy.deepcopy(made)
    made.train()(x)
    assert torch.equal(made.embed, before.embed)  # a step's codes are those from before it
    made.update(seed=0)
    tokens, residuals, _ = by_hand(x, before.embed)
    for k in range(K):
        counts, sums = torch.zeros(V).double(), torch.zeros(V, D).double()
        for token, r in zip(tokens[..., k].flatten(), residuals[k].flatten(0, 1), strict=True):
            counts[token] += 1
            sums[token] += r
        size = 0.9 * before.cluster_size[k].double() + 0.1 * counts
        average = 0.9 * before.embed_avg[k].double() + 0.1 * sums
        smooth = (size + 1e-5) / (size.sum() + V * 1e-5) * size.sum()
        torch.testing.assert_close(made.cluster_size[k].double(), size, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(made.embed_avg[k].double(), average, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(made.embed[k].double(), average / smooth[:, None], rtol=1e-5, atol=1e-6)


def test_only_training_is_remembered() -> None:
    made = quantizer().eval()
    before = copy.deepcopy(made.state_dict())
    made(latents())
    made.update(seed=0)
    assert all(torch.equal(made.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_batch_that_is_not_finite_touches_nothing(bad: float) -> None:
    made, x = quantizer(dead_code_share=0.5), latents()
    before = copy.deepcopy(made.state_dict())
    x[0, 3, 1] = bad
    made.train()(x)
    made.update(seed=0)
    assert all(torch.equal(made.state_dict()[name], value) for name, value in before.items())
    made(latents())  # and the next one is taken
    made.update(seed=1)
    assert not torch.equal(made.embed, before["embed"]) and made.embed.isfinite().all()


def test_dead_codes_begin_anew_on_residuals_of_the_batch() -> None:
    made, x = quantizer(dead_code_share=0.1), latents()
    dead = torch.tensor([1, 4])
    made.embed[:, dead] = 1000.0
    made.cluster_size[:, dead] = 1e-3
    made.embed_avg[:, dead] = 1.0
    _, residuals, _ = by_hand(x, made.embed)
    made.train()(x)
    made.update(seed=7)
    for k in range(K):
        mean = made.cluster_size[k, 0].new_tensor(0)
        for code in dead.tolist():
            distance = (residuals[k].flatten(0, 1) - made.embed[k, code]).abs().amax(-1).min()
            assert distance < 1e-5
            mean = made.cluster_size[k, code]
            torch.testing.assert_close(made.embed_avg[k, code], made.embed[k, code] * mean)
        alive = [v for v in range(V) if v not in dead.tolist()]
        assert 0 < mean < made.cluster_size[k, alive].mean()  # the mean of all counts, the dead ones' among them
        assert not torch.equal(made.embed[k, 1], made.embed[k, 4])


def test_an_item_that_two_processes_have_counts_once_as_what_a_code_begins_on() -> None:
    """As where one that cannot be read is replaced by another item of the step."""
    x = latents()
    for made in together([[(x, [0, 1])], [(x, [0, 1])]], dead_code_share=0.9):
        _, residuals, _ = by_hand(x, quantizer().embed)
        moved = (made.embed - quantizer().embed).abs().amax(-1) > 0.2
        assert moved.any()
        for k, code in moved.nonzero().tolist():
            assert (residuals[k].flatten(0, 1) - made.embed[k, code]).abs().amax(-1).min() < 1e-5


def test_no_share_leaves_dead_codes_where_they_are() -> None:
    made = quantizer(dead_code_share=0.0)
    made.embed[:, 1], made.embed_avg[:, 1], made.cluster_size[:, 1] = 1000.0, 1.0, 1e-3
    made.train()(latents())
    made.update(seed=7)
    assert (made.embed[:, 1] > 900).all()


Share = list[tuple[torch.Tensor, list[int]]]  # the micro-batches of a process, and the places of their items


def together(shares: list[Share], **settings: object) -> list[ResidualQuantizer]:
    """The quantisers of processes that each saw their own micro-batches, after one update."""
    barrier, slots = threading.Barrier(len(shares)), [torch.empty(0)] * len(shares)
    made = [quantizer(**settings).train() for _ in shares]

    def work(rank: int) -> None:
        def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
            slots[rank] = values.clone()
            barrier.wait(20)
            total = sum(slots[1:], slots[0].clone())
            barrier.wait(20)
            return total

        for x, places in shares[rank]:
            made[rank](x, torch.tensor(places))
        made[rank].update(seed=3, sum_over_processes=sum_over_processes)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(shares))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return made


@pytest.mark.parametrize("share", [0.0, 0.9])
@pytest.mark.parametrize("start", [0, 8])
def test_processes_and_micro_batches_change_nothing(share: float, start: int) -> None:
    """``start``: items are counted over the whole epoch, in steps of four here."""
    x = torch.cat([latents(), latents(seed=2)])  # four items
    (whole,) = together([[(x, [0, 1, 2, 3])]], dead_code_share=share)
    assert share == 0 or not torch.equal(whole.embed, together([[(x, [0, 1, 2, 3])]], dead_code_share=0.0)[0].embed)
    a, b, c, d = ((x[i : i + 1], [i + start]) for i in range(4))
    first, last = (x[:2], [start, start + 1]), (x[2:], [start + 2, start + 3])
    splits: list[list[Share]] = [
        [[first, last]],  # two micro-batches
        [[first], [last]],  # two processes
        [[a, c], [b, d]],  # two of each
        [[first, last], [(x[:0], [])]],  # a process with nothing
        [[first, last], []],
    ]
    for split in splits:
        for made in together(split, dead_code_share=share):
            for name, value in whole.state_dict().items():
                torch.testing.assert_close(made.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_autocast_does_not_change_tokens() -> None:
    made, x = quantizer(), latents()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = made(x)
    assert torch.equal(inside.tokens, made(x).tokens) and inside.sum.dtype == torch.float32


def test_the_start_survives_the_first_step() -> None:
    """Centres times counts are the sums that the averages go on from: no code shrinks."""
    generator = torch.Generator().manual_seed(0)
    points = 5 * torch.randn(V, D, generator=generator)
    x = (points[torch.arange(400) % V] + 0.1 * torch.randn(400, D, generator=generator)).view(4, 100, D)
    made = ResidualQuantizer(num_codebooks=K, vocab_size=V, dim=D)
    made.start(x.flatten(0, 1), generator=generator)
    assert (made.inited == 1).all()
    left = (x - made.dequantise(made.encode(x))).square().mean()
    assert left < 0.02 * x.square().mean()
    made.train()(x)
    made.update(seed=0)
    after = (x - made.dequantise(made.encode(x))).square().mean()
    assert after < 1.2 * left


def test_k_means_finds_what_there_is() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    centres, counts = k_means(points.repeat(7, 1), 3, generator=generator)
    assert sorted(counts.tolist()) == [7, 7, 7]
    torch.testing.assert_close(centres[centres.sum(-1).argsort()][0], points[0])
    centres, counts = k_means(points, 5, generator=generator)  # fewer vectors than centres
    assert len(centres) == 5 and len(torch.unique(centres, dim=0)) == 3 and counts.sum() == 3


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="codebook_decay and dead_code_share must be in .0, 1., got 1 and 0.1"):
        ResidualQuantizer(num_codebooks=1, vocab_size=2, dim=2, decay=1)
