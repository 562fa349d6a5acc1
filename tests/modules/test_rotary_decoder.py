"""The decoder of the language models: its rotations, its masks, and its memory against the whole prefix."""

from __future__ import annotations

import pytest
import torch

from modules.rotary_decoder import RMSNorm, RotaryDecoder, rotated

SIZES = {"vocab_size": 11, "d_model": 16, "num_layers": 2, "head_dim": 6, "d_ffn": 20}


def decoder(**more: object) -> RotaryDecoder:
    torch.manual_seed(0)
    sizes = {**SIZES, "num_heads": 4, "num_kv_heads": 2, **more}
    made = RotaryDecoder(**sizes).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_a_rotation_turns_neighbouring_pairs_as_complex_numbers() -> None:
    network = decoder(head_dim=8)
    x = torch.randn(2, 3, 5, 8)
    positions = torch.arange(5)
    angles = positions[:, None] * 10000.0 ** (-torch.arange(0, 8, 2) / 8)
    turned = torch.view_as_complex(x.unflatten(-1, (4, 2)).contiguous()) * torch.polar(torch.ones(5, 4), angles)
    torch.testing.assert_close(
        rotated(x, network.rotation(positions)), torch.view_as_real(turned).flatten(-2), rtol=1e-5, atol=1e-5
    )


def test_position_4000_is_as_exact_in_bf16_as_position_40() -> None:
    network = decoder(head_dim=64)
    x = torch.randn(1, 1, 200, 64, generator=torch.Generator().manual_seed(1))
    errors = []
    for first in (40, 4000):
        rotation = network.rotation(torch.arange(first, first + 200))
        exact = rotated(x.double().float(), rotation)
        with torch.autocast("cpu", torch.bfloat16):
            found = rotated(x.bfloat16(), network.rotation(torch.arange(first, first + 200)))
        assert network.rotation(torch.arange(3)).dtype == torch.float32
        errors.append(float((found.float() - exact).square().mean().sqrt()))
    assert 0 < errors[1] < 1.1 * errors[0]


def test_a_norm_is_computed_in_float32() -> None:
    x = torch.full((1, 4), 300.0, dtype=torch.float16)  # whose square float16 does not hold
    assert torch.equal(RMSNorm(4)(x), torch.ones(1, 4))


def test_what_comes_later_changes_nothing() -> None:
    network, ids = decoder(), torch.randint(0, 11, (2, 9))
    other = ids.clone()
    other[:, 6:] = 0
    torch.testing.assert_close(network(ids)[:, :6], network(other)[:, :6])


def test_a_key_serves_consecutive_queries() -> None:
    """As if each key stood there once for every query that it serves."""
    grouped, full = decoder(), decoder(num_kv_heads=4)
    state = grouped.state_dict()
    for name in list(state):
        if name.endswith(("wk.weight", "wv.weight")):
            state[name] = state[name].view(2, 6, 16).repeat_interleave(2, dim=0).reshape(24, 16)
    full.load_state_dict(state)
    ids = torch.randint(0, 11, (2, 7))
    torch.testing.assert_close(grouped(ids), full(ids))


@pytest.mark.parametrize("kv", [1, 4])
def test_a_memory_gives_what_the_whole_prefix_gives(kv: int) -> None:
    network = decoder(num_kv_heads=kv)
    prompts, lengths = torch.randint(0, 11, (3, 5)), torch.tensor([5, 1, 3])
    with torch.no_grad():
        memory, rows = network.stepping(), [0, 1, 2]
        found = memory.begin(prompts, lengths)
        whole = [prompts[row, : lengths[row]] for row in rows]
        draw = torch.Generator().manual_seed(0)
        for step in range(300):  # more than a memory grows by at a time
            if step % 60 == 0:
                expected = torch.stack([network(ids[None])[0, -1] for ids in whole])
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
            if step == 120:
                memory.keep(torch.tensor([0, 2]))
                whole = [whole[0], whole[2]]
            ids = torch.randint(0, 11, (len(whole),), generator=draw)
            whole = [torch.cat([old, new[None]]) for old, new in zip(whole, ids, strict=True)]
            found = memory.step(ids)


def test_logits_of_some_positions_are_those_of_all() -> None:
    network, ids = decoder(output_bias=True), torch.randint(0, 11, (2, 4))
    where = torch.tensor([[True, False, True, False], [False, False, False, True]])
    torch.testing.assert_close(network(ids, where), network(ids)[where])


@pytest.mark.parametrize("sizes", [{"head_dim": 5}, {"num_kv_heads": 3}, {"num_layers": 0}])
def test_sizes_that_cannot_be_are_named(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(sizes))):
        decoder(**sizes)
