"""SEANet: its frame law, and the same as matrix products, in pieces, and row by row."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modules import frozen_seanet
from modules.frozen_seanet import FrozenLayers, lstm_rows, mirror_ends, reach
from modules.seanet import PaddedConv1d, ResidualBlock, ResidualLSTM, SEANetDecoder, SEANetEncoder, UpConv1d
from modules.snake import Snake

SIZES = dict(filters=3, dim=6, residual_layers=2, residual_kernel=3, dilation_base=2, lstm_layers=2)


def encoder(activation: str = "ELU", **sizes: object) -> SEANetEncoder:
    torch.manual_seed(0)
    return SEANetEncoder(**{**SIZES, "strides": [2, 5], "bidirectional": True, "activation": activation, **sizes})


def decoder(activation: str = "ELU", **sizes: object) -> SEANetDecoder:
    torch.manual_seed(1)
    return SEANetDecoder(**{**SIZES, "strides": [5, 2], "activation": activation, **sizes})


def parts(network: nn.Module) -> tuple[nn.ModuleList, ResidualLSTM, nn.ModuleList]:
    (place,) = (i for i, layer in enumerate(network.layers) if isinstance(layer, ResidualLSTM))
    return network.layers[:place], network.layers[place], network.layers[place + 1 :]


@torch.no_grad()
@pytest.mark.parametrize("samples", [*range(1, 25), 99, 100, 101])
def test_frames_are_the_samples_over_the_hop_rounded_up(samples: int) -> None:
    assert encoder()(torch.randn(2, 1, samples)).shape == (2, 6, -(-samples // 10))


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 3, 17])
def test_samples_are_the_frames_times_the_hop(frames: int) -> None:
    assert decoder()(torch.randn(2, 6, frames)).shape == (2, 1, 10 * frames)


@torch.no_grad()
def test_a_stride_of_five_is_padded_by_three_and_two() -> None:
    conv = PaddedConv1d(inputs=1, outputs=1, kernel=10, stride=5)
    x = torch.randn(1, 1, 50)
    torch.testing.assert_close(conv(x), conv.conv(F.pad(x, (3, 2), mode="reflect")))
    torch.testing.assert_close(conv(x[..., :48]), conv.conv(F.pad(x[..., :48], (3, 4), mode="reflect")))


@torch.no_grad()
def test_a_signal_too_short_to_mirror_is_mirrored_with_zeros_which_are_cut_off() -> None:
    conv = PaddedConv1d(inputs=1, outputs=1, kernel=7)
    x = torch.tensor([[[1.0, 2.0]]])
    by_hand = torch.tensor([[[0.0, 0.0, 2.0, 1.0, 2.0, 0.0, 0.0, 0.0]]])  # 1 2 0 0 mirrored by 3, less 2 at the end
    torch.testing.assert_close(conv(x), conv.conv(by_hand))


@torch.no_grad()
def test_a_transposed_convolution_is_cut_by_half_its_stride_the_left_by_one_more() -> None:
    up = UpConv1d(inputs=2, outputs=1, stride=5)
    x = torch.randn(1, 2, 4)
    torch.testing.assert_close(up(x), up.convtr(x)[..., 3:-2])


def test_snake_begins_with_one_alpha_a_channel() -> None:
    x = torch.linspace(-3, 3, 12).view(1, 2, 6)
    torch.testing.assert_close(Snake(channels=2)(x), x + torch.sin(x) ** 2)
    assert Snake(channels=2).alpha.shape == (1, 2, 1)


def test_released_sizes_have_the_published_number_of_parameters() -> None:
    sizes = dict(filters=64, dim=1024, residual_layers=1, residual_kernel=3, dilation_base=2, lstm_layers=2)
    with torch.device("meta"):
        for activation, more in (("ELU", (0, 0)), ("Snake", (4448, 3424))):
            coder = SEANetEncoder(**sizes, strides=[2, 4, 5, 8], bidirectional=True, activation=activation)
            back = SEANetDecoder(**sizes, strides=[8, 5, 4, 2], activation=activation)
            counts = [sum(p.numel() for p in part.parameters()) for part in (coder, back)]
            assert counts == [67_705_856 + more[0], 35_182_530 + more[1]]


@torch.no_grad()
@pytest.mark.parametrize("activation", ["ELU", "Snake"])
@pytest.mark.parametrize("samples", [1, 3, 11, 20, 137])
def test_products_give_what_the_layers_give(activation: str, samples: int) -> None:
    for network, x in (
        (encoder(activation), torch.randn(3, 1, samples)),
        (decoder(activation), torch.randn(3, 6, samples)),
    ):
        for alpha in (p for name, p in network.named_parameters() if name.endswith("alpha")):
            alpha.uniform_(0.5, 2.0)
        before, lstm, after = parts(network)
        y = FrozenLayers(after)(lstm_rows(lstm, FrozenLayers(before)(x.transpose(1, 2))))
        torch.testing.assert_close(y.transpose(1, 2), network(x), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("activation", ["ELU", "Snake"])
@pytest.mark.parametrize(("samples", "rows"), [(137, 4), (400, 7), (401, 30), (403, 5)])
def test_tiles_give_what_the_whole_gives(monkeypatch, activation: str, samples: int, rows: int) -> None:
    for network in (encoder(activation, filters=8), decoder(activation, filters=8)):
        before, _, after = parts(network)
        for layers in (before, after):
            first = next(layer for layer in layers if isinstance(layer, PaddedConv1d | UpConv1d))
            channels = first.conv.in_channels if isinstance(first, PaddedConv1d) else first.convtr.in_channels
            x = torch.randn(2, samples, channels)
            whole = FrozenLayers(layers)(x)
            with monkeypatch.context() as patch:
                patch.setattr(frozen_seanet, "TILE_VALUES", 1)
                patch.setattr(frozen_seanet, "LEAST_ROWS", rows)
                torch.testing.assert_close(FrozenLayers(layers)(x), whole, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("outputs", "stride", "dilation"), [(1, 1, 1), (2, 3, 1), (2, 1, 4)])
def test_few_outputs_are_summed_after_their_products(outputs: int, stride: int, dilation: int) -> None:
    conv = PaddedConv1d(inputs=32, outputs=outputs, kernel=7, stride=stride, dilation=dilation)
    for length in (1, 2, 30, 101):
        x = torch.randn(2, 32, length)
        y = FrozenLayers([conv])(x.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(y, conv(x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_lstm_over_padded_rows_is_that_over_each_alone() -> None:
    _, lstm, _ = parts(encoder())
    x = torch.randn(3, 9, 12)
    y = lstm_rows(lstm, x, [9, 4, 1])
    for row, length in enumerate([9, 4, 1]):
        alone = lstm_rows(lstm, x[row : row + 1, :length])
        torch.testing.assert_close(y[row : row + 1, :length], alone, rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("strides", [[2, 5], [8, 5, 4, 2]])
def test_no_frame_hears_beyond_the_reach(strides: list[int]) -> None:
    """A change beyond it leaves a frame as it was; half the reach less would not do."""
    hop = torch.tensor(strides).prod().item()
    for network, x in ((encoder(strides=strides[::-1]), torch.randn(1, 30 * hop, 1)), (decoder(strides=strides), None)):
        before, _, after = parts(network)
        layers = before if x is not None else after
        x = torch.randn(1, 30, 3 * 2 ** len(strides)) if x is None else x
        far = reach(layers, rate=hop)
        ratio = x.shape[1] // 30  # values a frame of the input
        changed = x.clone()
        changed[:, 20 * ratio :] += 1
        y, z = (FrozenLayers(layers)(value) for value in (x, changed))
        ratio = y.shape[1] // 30
        assert torch.equal(y[:, : (20 - far) * ratio], z[:, : (20 - far) * ratio])
        assert far < 12 and not torch.equal(y[:, : 20 * ratio], z[:, : 20 * ratio])


def test_ends_are_mirrored_as_torch_does() -> None:
    x = torch.randn(2, 9, 3)
    torch.testing.assert_close(
        mirror_ends(x, 3, 2), F.pad(x.transpose(1, 2), (3, 2), mode="reflect").transpose(1, 2), rtol=0, atol=0
    )


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="ELU, Snake, got 'Tanh'"):
        ResidualBlock(channels=4, kernel=3, dilation=1, activation="Tanh")
