"""The discriminators of HiFi-GAN (arXiv 2010.05646): SpeechBrain's, and the same with less in them, for a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

from speechbrain.lobes.models.HifiGAN import DiscriminatorP, DiscriminatorS, HifiganDiscriminator
from speechbrain.nnet.CNN import Conv2d
from torch import nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import weight_norm

PERIODS = (2, 3, 5, 7, 11)
SCALES = 3


class Discriminators(HifiganDiscriminator):
    """Period discriminators, each of which sees every p-th sample in a row, and scale discriminators, the first of
    which sees the signal and each other one half the rate of the one before.

    By default they are SpeechBrain's, 70.7 million parameters. With other settings, what is left out or made narrower
    changes nothing in what is left: kernels, strides, groups and the way through the layers stay.

    ``forward``: wav [B, 1, T] -> the scores of each sub-discriminator, [B, any], and its layers' outputs.

    Args:
        width: channels of all layers, as a share of the published ones, rounded up to a multiple of 8 (16 in the scale
            discriminators, for the groups of their convolutions). The cost falls nearly with its square.
        periods: of the period discriminators, in samples.
        scales: how many scale discriminators, 0 to 3. They are the dear ones on a CPU, where convolutions in groups
            are slow.

    Raises:
        ValueError: nothing is left, or there is no such width, period or scale.
    """

    def __init__(self, *, width: float = 1.0, periods: Sequence[int] = PERIODS, scales: int = SCALES):
        if not 0 < width <= 1:
            raise ValueError(f"the width of the discriminators must be above 0 and at most 1, got {width}")
        if not 0 <= scales <= SCALES or any(period < 1 for period in periods) or not (scales or periods):
            raise ValueError(
                f"discriminators need periods above 0 and 0 to {SCALES} scales, and one of either at least; "
                f"got periods {list(periods)} and {scales} scales"
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
