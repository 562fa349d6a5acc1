"""The network's properties, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from models.limuse.blocks import with_context
from models.limuse.network import LiMuSE, stage_temperature
from models.limuse.quantiser import round_activations
from tests.limuse import decibels, network


def cues(count: int, samples: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    shapes = ((count, 2, samples), (count, 512), (count, -(-samples // 640), 256))
    return tuple(torch.randn(*shape, generator=draw) for shape in shapes)


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 31, 32, 47, 48, 64, 100])
def test_context_without_modules_is_twice_the_input(frames: int) -> None:
    def nothing(x: torch.Tensor) -> torch.Tensor:
        return x

    x = torch.randn(2, 3, frames)
    assert torch.allclose(with_context(x, nothing, torch.zeros_like, nothing, 32), 2 * x)


def test_blocks_are_as_many_as_published() -> None:
    seen = []

    def core(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape[-1])
        return x

    with_context(torch.zeros(1, 1, 2999), lambda x: x, core, lambda x: x, 32)
    assert seen == [190]


@pytest.mark.parametrize("which", ["full", "quantised"])
def test_an_item_is_the_same_alone_and_in_a_batch(which: str) -> None:
    net = network(which)
    both = cues(2, 3000)
    both[0][1] *= 50
    with torch.no_grad():
        together = net(*both)
        for i in range(2):
            alone = net(*(x[i : i + 1] for x in both))
            assert (together[i] - alone[0]).abs().max() < 1e-5 * together[i].abs().max().clamp(min=1) or which != "full"
    x = torch.randn(2, 4, 5)
    assert torch.equal(round_activations(x, 8, 2)[:1], round_activations(x[:1], 8, 1))


def test_the_beginning_is_about_the_mixture() -> None:
    """Else SI-SDR, blind to the sign, may train an output that is turned over."""
    net = LiMuSE(groups=8, num_filters=64, context_hidden=64, layers=2, audio_repeats=1)
    mixture, *others = cues(2, 4000)
    with torch.no_grad():
        made = net(mixture, *others)
    likeness = (made * mixture[:, 0]).sum(1) / (made.norm(dim=1) * mixture[:, 0].norm(dim=1))
    assert likeness.min() > 0.5
    assert not net.encoder.bias.any() and not net.decoder.bias.any()


def test_channel_one_alone() -> None:
    net = network(channels=1)
    mixture, *others = cues(1, 500)
    assert net(mixture[:, :1], *others).shape == (1, 500)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"groups": 7}, "groups must divide num_filters, got 7 and 12"),
        ({"groups": 0}, "groups must be above 0"),
        ({"cues": []}, "cues must name"),
        ({"cues": ["voiceprint", "smell"]}, "smell"),
        ({"cues": ["visual", "visual"]}, "each once"),
        ({"filter_length": 31}, "filter_length must be an even number"),
        ({"context_length": 0}, "context_length"),
        ({"layers": 0}, "layers 0"),
        ({"quantised": True, "weight_bits": 9}, "weight_bits must be a whole number from 2 to 8, got 9"),
        ({"quantised": True, "weight_bits": 1}, "weight_bits"),
        ({"quantised": True, "activation_bits": 1}, "activation_bits"),
    ],
)
def test_what_cannot_be_is_refused(values: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        network(**values)


def test_cues_come_in_any_order() -> None:
    assert network(cues=["visual", "voiceprint"]).cues == ("voiceprint", "visual")


def test_the_temperature_grows_and_ends() -> None:
    assert [stage_temperature(5, epoch) for epoch in (0, 1, 4, 999)] == [5, 10, 25, 2000]


def test_blocks_in_parts_are_blocks_together(monkeypatch) -> None:
    net, given = network(), cues(2, 12000)
    with torch.no_grad():
        parts = net(*given)
        monkeypatch.setattr("models.limuse.blocks.TOGETHER", 10**9)
        assert torch.allclose(net(*given), parts, atol=1e-5)
    assert torch.allclose(net(*given).detach(), parts, atol=1e-5)  # with gradients


def test_the_last_bits_of_rounded_activations_do_not_follow_from_the_batch() -> None:
    """A mean that was weighted by itself came out with other last bits in a batch of two, and roundings turned."""
    net = network("quantised")
    net.quantiser.start(net.quantised_weights())
    seen = []
    net.audio_block.register_forward_hook(lambda module, entered, left: seen.append(entered[0]))
    given = cues(2, 6000)
    given[0][1] = 0
    given[0][1, :, 3000] = 0.9  # a click
    with torch.no_grad():
        net(*given), net(*(x[:1] for x in given))
    assert decibels(seen[0][:1], seen[1]) > 80
