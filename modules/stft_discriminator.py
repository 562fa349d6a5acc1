"""A discriminator that sees a complex spectrogram (Defossez et al., arXiv 2210.13438)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

SLOPE = 0.2  # of the leaky ReLU


class STFTDiscriminator(nn.Module):
    """Convolutions over real and imaginary part of an STFT, with strides along the frequencies only.

    ``forward``: wav [B, 1, T] -> its score [B, any], and what its five layers give.

    Args:
        size: samples of the FFT and of its Hann window; the hop is a quarter of it.
        filters: channels of all layers.
    """

    def __init__(self, *, size: int, filters: int = 32):
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        wide = (3, 9)
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(2, filters, wide, padding=(1, 4)),
                *(
                    weight_norm(
                        nn.Conv2d(filters, filters, wide, stride=(1, 2), dilation=(dilation, 1), padding=(dilation, 4))
                    )
                    for dilation in (1, 2, 4)
                ),
                weight_norm(nn.Conv2d(filters, filters, 3, padding=1)),
            ]
        )
        self.conv_post = weight_norm(nn.Conv2d(filters, 1, 3, padding=1))

    def forward(self, wav: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x = self.spectrogram(wav)
        layers = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            layers.append(x)
        return self.conv_post(x).flatten(1), layers

    def spectrogram(self, wav: torch.Tensor) -> torch.Tensor:
        """wav [B, 1, T] -> [B, 2, frames, frequencies] float32; windows only where they fit whole.

        Divided by the window's norm, the square root of the sum of its squares.

        Raises:
            ValueError: T is below the size.
        """
        if wav.shape[-1] < self.size:
            raise ValueError(
                f"stft_sizes: an FFT of {self.size} samples is longer than the speech, {wav.shape[-1]} samples"
            )
        with torch.autocast(wav.device.type, enabled=False):
            window = self.window / self.window.square().sum().sqrt()
            spectrum = torch.stft(
                wav.squeeze(1).float(), self.size, self.size // 4, window=window, center=False, return_complex=True
            )
            return torch.stack([spectrum.real, spectrum.imag], dim=1).transpose(2, 3)
