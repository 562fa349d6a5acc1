"""Log-mel spectra in the place of an encoder: what the first units of self-supervised training are made of."""

from __future__ import annotations

import torch
import torchaudio

from models.wavlm import unit_variance
from modules.frames import FrameGrid, length_mask
from modules.frozen import Frozen

_FFT = 512  # samples, the next power of two above WavLM's window of 400
_FLOOR = 0.005  # of mel magnitudes of a signal of unit variance: below nearly all that is speech


class MelEncoder(Frozen):
    """Log-mel spectra on WavLM's frames, with the interface of ``models.wavlm.WavLM``.

    The signal is brought to unit variance first, so the level of a recording makes no difference. Nothing in it is
    trained: it stands where HuBERT's first iteration has MFCCs (arXiv 2106.07447).

    Args:
        bands: D, mel bands (Slaney's scale and norm) from 0 to 8 kHz.
        deltas: append each band's slope over five frames, which makes 2 D.
    """

    sample_rate = 16000

    def __init__(self, *, bands: int = 40, deltas: bool = False):
        super().__init__()
        self.layers = (0,)
        self.normalize = True
        self.grid = FrameGrid()
        self.hop_length = self.grid.hop
        self.dim = bands * (1 + deltas)
        self.deltas = deltas
        self.spectrum = torchaudio.transforms.MelSpectrogram(
            self.sample_rate, n_fft=_FFT, win_length=self.grid.window, hop_length=self.grid.hop, n_mels=bands,
            power=1.0, center=False, norm="slaney", mel_scale="slaney",
        )  # fmt: skip
        self.freeze()

    @torch.no_grad()
    def forward(self, wav: torch.Tensor, lengths: torch.Tensor | None = None) -> list[torch.Tensor]:
        """[B, T] at 16 kHz, with [B] samples of each row -> one [B, N, D] float32."""
        if wav.shape[-1] < self.grid.window:
            raise ValueError(f"a mel frame needs {self.grid.window} samples, got {wav.shape[-1]}")
        own = None if lengths is None else length_mask(lengths, wav.shape[-1])
        wav = unit_variance(wav.float(), own)
        frames = self.grid.frames(wav.shape[-1])
        # torchaudio puts a window of 400 into the middle of an FFT of 512: 56 samples before it, 56 behind
        side = (_FFT - self.grid.window) // 2
        with torch.autocast(wav.device.type, enabled=False):
            x = self.spectrum(torch.nn.functional.pad(wav, (side, side)))[..., :frames]
            x = torch.log(x.clamp(min=_FLOOR))  # [B, D, N]
            if self.deltas:
                x = torch.cat([x, torchaudio.functional.compute_deltas(x)], dim=1)
        return [x.transpose(1, 2)]
