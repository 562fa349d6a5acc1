"""Vocos (arXiv 2306.00814) in the form of arXiv 2408.16532: features to a spectrum, and that to a waveform."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

NORM_GROUPS = 32
EPSILON = 1e-6
LARGEST_MAGNITUDE = 100.0


class AdaptiveLayerNorm(nn.Module):
    """Layer norm whose scale and shift are a row of two tables: [..., C] -> [..., C], always of row 0.

    Args:
        channels: C.
        rows: of the tables, one for each condition of the training.
    """

    def __init__(self, *, channels: int, rows: int):
        super().__init__()
        self.scale = nn.Embedding(rows, channels)
        self.shift = nn.Embedding(rows, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.layer_norm(x, (x.shape[-1],), eps=EPSILON)
        return x * self.scale.weight[0] + self.shift.weight[0]


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution and two layers on each frame, added to their input: [B, C, N] -> [B, C, N].

    Args:
        channels: C.
        hidden: between the two layers.
        norm_rows: of the norm's tables.
    """

    def __init__(self, *, channels: int, hidden: int, norm_rows: int):
        super().__init__()
        self.dwconv = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = AdaptiveLayerNorm(channels=channels, rows=norm_rows)
        self.pwconv1 = nn.Linear(channels, hidden)
        self.pwconv2 = nn.Linear(hidden, channels)
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.dwconv(x).transpose(1, 2))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.transpose(1, 2)


class ResidualConvolutions(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))): [B, C, N] -> [B, C, N]. A norm sees the whole signal."""

    def __init__(self, *, channels: int):
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=1)
        self.norm2 = group_norm(channels)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y)))


class FrameAttention(nn.Module):
    """Attention of one head over all frames, added to its input: [B, C, N] -> [B, C, N]."""

    def __init__(self, *, channels: int):
        super().__init__()
        self.norm = group_norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv1d(channels, channels, 1) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        q, k, v = (part(y).transpose(1, 2) for part in (self.q, self.k, self.v))
        return x + self.proj_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2))


class VocosBackbone(nn.Module):
    """Features to what a head makes a waveform of: [B, D, N] -> [B, N, C].

    Args:
        inputs: D.
        channels: C, a multiple of 32.
        hidden: inside the ConvNeXt blocks.
        layers: how many of these.
        norm_rows: of the adaptive norms' tables.
    """

    def __init__(self, *, inputs: int, channels: int, hidden: int, layers: int, norm_rows: int):
        super().__init__()
        self.embed = nn.Conv1d(inputs, channels, 7, padding=3)
        self.pos_net = nn.Sequential(
            ResidualConvolutions(channels=channels),
            ResidualConvolutions(channels=channels),
            FrameAttention(channels=channels),
            ResidualConvolutions(channels=channels),
            ResidualConvolutions(channels=channels),
            group_norm(channels),
        )
        self.norm = AdaptiveLayerNorm(channels=channels, rows=norm_rows)
        self.convnext = nn.Sequential(
            *(ConvNeXtBlock(channels=channels, hidden=hidden, norm_rows=norm_rows) for _ in range(layers))
        )
        self.final_layer_norm = nn.LayerNorm(channels, eps=EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pos_net(self.embed(x))
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.final_layer_norm(self.convnext(x).transpose(1, 2))


class FourierHead(nn.Module):
    """Frames to a waveform by way of magnitudes and phases: [B, N, C] -> [B, hop * N].

    Args:
        channels: C.
        fft_length: samples of a window; an even number of them more than a hop.
        hop: samples a frame.
    """

    def __init__(self, *, channels: int, fft_length: int, hop: int):
        super().__init__()
        self.out = nn.Linear(channels, fft_length + 2)
        self.istft = nn.Module()  # holds the window under its public name
        self.istft.register_buffer("window", torch.hann_window(fft_length))
        self.fft_length, self.hop = fft_length, hop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        log_magnitude, phase = self.out(x).chunk(2, dim=-1)
        spectrum = torch.polar(log_magnitude.exp().clamp(max=LARGEST_MAGNITUDE), phase)
        window = self.istft.window
        frames = torch.fft.irfft(spectrum, n=self.fft_length) * window  # [B, N, fft]
        weight = self._overlap_add(window.square().expand(1, x.shape[1], -1))
        return self._overlap_add(frames) / weight

    def _overlap_add(self, frames: torch.Tensor) -> torch.Tensor:
        """[B, N, fft] -> [B, hop * N]: what the windows reach beyond the frames is cut off at both ends."""
        count, cut = frames.shape[1], (self.fft_length - self.hop) // 2
        length = (count - 1) * self.hop + self.fft_length
        whole = F.fold(
            frames.transpose(1, 2), output_size=(1, length), kernel_size=(1, self.fft_length), stride=(1, self.hop)
        )
        return whole[:, 0, 0, cut : length - cut]


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(NORM_GROUPS, channels, eps=EPSILON)
