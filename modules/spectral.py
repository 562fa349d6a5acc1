"""Spectrograms, as numbers and as pictures."""

from __future__ import annotations

import torch

# Dark to light, through blue, purple and orange: the eye sees equal steps as equal.
_COLOURS = torch.tensor(
    [
        [0.0, 0.0, 0.02],
        [0.16, 0.07, 0.37],
        [0.46, 0.12, 0.51],
        [0.79, 0.25, 0.40],
        [0.98, 0.55, 0.28],
        [0.99, 0.96, 0.75],
    ]
)


def log_spectrogram(wav: torch.Tensor, *, window: int = 512, hop: int = 128, floor_db: float = -80.0) -> torch.Tensor:
    """Power spectrogram in dB below its own maximum.

    Args:
        wav: [T] samples.
        window, hop: in samples (Hann window).
        floor_db: what lies below is cut off.

    Returns:
        [window // 2 + 1, frames] in [floor_db, 0]; all ``floor_db`` for silence.
    """
    wav = wav.float()
    if len(wav) <= window:
        wav = torch.nn.functional.pad(wav, (0, window + 1 - len(wav)))
    spectrum = torch.stft(wav, window, hop, window=torch.hann_window(window, device=wav.device), return_complex=True)
    power = spectrum.abs().square()
    peak = power.max()
    if peak == 0:
        return torch.full_like(power, floor_db)
    return (10 * torch.log10(power / peak + 1e-20)).clamp(min=floor_db)


def spectrogram_image(wav: torch.Tensor, *, floor_db: float = -80.0) -> torch.Tensor:
    """The spectrogram of ``wav`` [T] as a picture [3, H, W] in [0, 1], low frequencies at the bottom."""
    return coloured(1 - log_spectrogram(wav.cpu(), floor_db=floor_db).flip(0) / floor_db)


def coloured(level: torch.Tensor) -> torch.Tensor:
    """Levels [H, W], from 0 at the floor to 1 at the peak, as a picture [3, H, W] in [0, 1]."""
    position = level * (len(_COLOURS) - 1)
    below = position.floor().long().clamp(max=len(_COLOURS) - 2)
    part = (position - below)[..., None]
    return torch.lerp(_COLOURS[below], _COLOURS[below + 1], part).permute(2, 0, 1)
