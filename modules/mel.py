"""Log-mel spectrograms, and how far two signals are apart in them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torchaudio
from torch import nn


class LogMel(nn.Module):
    """Logarithm of the magnitudes in mel bands (Slaney's norm), as HiFi-GAN (arXiv 2010.05646) has it.

    Computed in float32 also within autocast: bfloat16 could not tell apart what the loss is about.

    Args:
        size: samples of the FFT and of its Hann window.
        hop: samples between two windows; None: a quarter of the size.
        bands: how many, between 0 Hz and ``max_frequency``.
        sample_rate, max_frequency: in Hz.
        floor: magnitudes below count as this.
        scale: of the bands, ``slaney`` or ``htk``.
        centred: the first window's middle lies on the first sample; else windows begin (size - hop) / 2 before it and
            end as far behind the last one. The ends are mirrored.
        eps: added to each magnitude.
        power_eps: added to each squared magnitude, before the root.
        allow_empty: a band may lie between two frequencies of the FFT, and always be empty.

    Raises:
        ValueError: a band is empty, and must not be.
    """

    def __init__(
        self,
        *,
        size: int = 1024,
        hop: int | None = None,
        bands: int = 80,
        sample_rate: int = 16000,
        max_frequency: float = 8000.0,
        floor: float = 1e-5,
        scale: str = "slaney",
        centred: bool = True,
        eps: float = 0.0,
        power_eps: float = 0.0,
        allow_empty: bool = False,
    ):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of empty bands, which are an error here or wanted
            filters = torchaudio.functional.melscale_fbanks(
                size // 2 + 1, 0.0, max_frequency, bands, sample_rate, norm="slaney", mel_scale=scale
            )
        if not allow_empty and (empty := int((filters.amax(dim=0) == 0).sum())):
            raise ValueError(
                f"{empty} of {bands} mel bands are empty with an FFT of {size} samples: ask for fewer bands"
            )
        self.size = size
        self.hop = hop or size // 4
        self.floor = floor
        self.eps = eps
        self.power_eps = power_eps
        self.overhang = size // 2 if centred else (size - self.hop) // 2
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(size), persistent=False)

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        """wav [B, T] -> [B, bands, frames] float32, natural logarithm.

        Of centred windows there are T // hop + 1, else T // hop.

        Raises:
            ValueError: there are too few samples to mirror.
        """
        if wav.shape[-1] <= self.overhang:
            raise ValueError(
                f"a spectrogram with an FFT of {self.size} needs more than {self.overhang} samples, got {wav.shape[-1]}"
            )
        with torch.autocast(wav.device.type, enabled=False):
            wav = F.pad(wav.float(), (self.overhang, self.overhang), mode="reflect")
            spectrum = torch.stft(wav, self.size, self.hop, window=self.window, center=False, return_complex=True)
            if self.power_eps:
                magnitudes = (torch.view_as_real(spectrum).square().sum(-1) + self.power_eps).sqrt()
            else:
                magnitudes = spectrum.abs()
            magnitudes = magnitudes + self.eps if self.eps else magnitudes
            return (magnitudes.transpose(-1, -2) @ self.filters).transpose(-1, -2).clamp(min=self.floor).log()


class MelDistance(nn.Module):
    """Mean absolute difference of log-mel spectrograms, at one resolution or the mean over several.

    Args:
        sizes: of the FFTs, in samples.
        bands: at a size of 1024. Other sizes have them in proportion: bands as narrow as the FFT can resolve.
        sample_rate, max_frequency, floor, centred, power_eps: as for ``LogMel``.
    """

    def __init__(
        self,
        *,
        sizes: Sequence[int] = (1024,),
        bands: int = 80,
        sample_rate: int = 16000,
        max_frequency: float = 8000.0,
        floor: float = 1e-5,
        centred: bool = True,
        power_eps: float = 0.0,
    ):
        super().__init__()
        if not sizes:
            raise ValueError("a distance of mel spectrograms needs one size of FFT or more, got none")
        self.spectrograms = nn.ModuleList(
            LogMel(
                size=size,
                bands=max(1, bands * size // 1024),
                sample_rate=sample_rate,
                max_frequency=max_frequency,
                floor=floor,
                centred=centred,
                power_eps=power_eps,
            )
            for size in sizes
        )

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """[B, T], [B, T] -> a scalar in float32; the mean over items, bands and frames."""
        distances = [(mel(output) - mel(target)).abs().mean() for mel in self.spectrograms]
        return torch.stack(distances).mean()
