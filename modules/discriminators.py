"""Discriminators of speech: HiFi-GAN's (arXiv 2010.05646), as SpeechBrain has them or with less in them for a CPU, and
those of spectrograms (arXiv 2210.13438)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from speechbrain.lobes.models.HifiGAN import DiscriminatorP, DiscriminatorS, HifiganDiscriminator
from speechbrain.nnet.CNN import Conv2d
from torch import nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import weight_norm

from modules.stft_discriminator import STFTDiscriminator

PERIODS = (2, 3, 5, 7, 11)
SCALES = 3


class Discriminators(HifiganDiscriminator):
    """Period discriminators, each of which sees every p-th sample in a row; scale discriminators, the first of which
    sees the signal and each other one half the rate of the one before; and discriminators of spectrograms.

    By default they are SpeechBrain's, 70.7 million parameters, and none of spectrograms. With other settings, what is
    left out or made narrower changes nothing in what is left: kernels, strides, groups and the way through the layers
    stay.

    ``forward``: wav [B, 1, T] -> the scores of each sub-discriminator, [B, any], and its layers' outputs.

    Args:
        width: channels of all layers, as a share of the published ones, rounded up to a multiple of 8 (16 in the scale
            discriminators, for the groups of their convolutions). The cost falls nearly with its square.
        periods: of the period discriminators, in samples.
        scales: how many scale discriminators, 0 to 3. They are the dear ones on a CPU, where convolutions in groups
            are slow.
        stft_sizes: of the spectrograms' FFTs, in samples.
        stft_filters: channels of the discriminators of spectrograms, which the width does not change.
        zero_padding: of the period discriminators' convolutions, as HiFi-GAN's own code has it; SpeechBrain's mirror.

    Raises:
        ValueError: nothing is left, or there is no such width, period or scale.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        periods: Sequence[int] = PERIODS,
        scales: int = SCALES,
        stft_sizes: Sequence[int] = (),
        stft_filters: int = 32,
        zero_padding: bool = False,
    ):
        if not 0 < width <= 1:
            raise ValueError(f"the width of the discriminators must be above 0 and at most 1, got {width}")
        is_any = scales or periods or stft_sizes
        if not 0 <= scales <= SCALES or any(period < 1 for period in periods) or not is_any:
            raise ValueError(
                f"discriminators need periods above 0 and 0 to {SCALES} scales, and one of either at least, or of "
                f"spectrograms; got FFTs of {list(stft_sizes)} samples, periods {list(periods)} and {scales} scales"
            )
        super().__init__()
        if tuple(periods) != PERIODS:
            self.mpd.discriminators = nn.ModuleList(DiscriminatorP(period) for period in periods)
        self.msd.discriminators = self.msd.discriminators[:scales]
        self.msd.meanpools = self.msd.meanpools[: max(scales - 1, 0)]
        if width < 1:
            for part in self.mpd.discriminators:
                _narrow_period(part, width)
            for part in self.msd.discriminators:
                _narrow_scale(part, width)
        if zero_padding:
            for layer in self.mpd.modules():
                if isinstance(layer, Conv2d):
                    layer.padding_mode = "constant"
        self.stft = nn.ModuleList(STFTDiscriminator(size=size, filters=stft_filters) for size in stft_sizes)

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
        scores, features = super().forward(x)
        for discriminator in self.stft:
            score, layers = discriminator(x)
            scores.append(score)
            features.append(layers)
        return scores, features


def make_discriminators(
    *,
    width: float = 1.0,
    periods: Sequence[int] = PERIODS,
    scales: int = SCALES,
    stft_sizes: Sequence[int] = (),
    stft_filters: int = 32,
    zero_padding: bool = False,
) -> Discriminators | None:
    """``Discriminators``, or None where there are no periods, scales and spectrograms, or the width is 0."""
    if width == 0 or (not periods and not stft_sizes and scales == 0):
        return None
    return Discriminators(
        width=width,
        periods=periods,
        scales=scales,
        stft_sizes=stft_sizes,
        stft_filters=stft_filters,
        zero_padding=zero_padding,
    )


def _narrow_period(discriminator: DiscriminatorP, width: float) -> None:
    channels = 1
    for i, layer in enumerate(discriminator.convs):
        wanted = _share(layer.conv.out_channels, width, multiple=8)
        discriminator.convs[i] = _narrow_period_layer(layer, channels, wanted)
        channels = wanted
    discriminator.conv_post = _narrow_period_layer(discriminator.conv_post, channels, 1)


def _narrow_period_layer(layer: Conv2d, inputs: int, outputs: int) -> Conv2d:
    return Conv2d(
        in_channels=inputs,
        out_channels=outputs,
        kernel_size=layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        skip_transpose=True,
        weight_norm=True,
    )


def _narrow_scale(discriminator: DiscriminatorS, width: float) -> None:
    channels = 1
    multiple = max(layer.groups for layer in discriminator.convs)
    for i, layer in enumerate(discriminator.convs):
        wanted = _share(layer.out_channels, width, multiple=multiple)
        discriminator.convs[i] = _narrow_scale_layer(layer, channels, wanted)
        channels = wanted
    discriminator.conv_post = _narrow_scale_layer(discriminator.conv_post, channels, 1)


def _narrow_scale_layer(layer: nn.Conv1d, inputs: int, outputs: int) -> nn.Module:
    norm = spectral_norm if hasattr(layer, "weight_orig") else weight_norm
    size = (layer.kernel_size, layer.stride, layer.padding)
    return norm(nn.Conv1d(inputs, outputs, *size, groups=layer.groups))


def _share(channels: int, width: float, *, multiple: int) -> int:
    return math.ceil(channels * width / multiple) * multiple
