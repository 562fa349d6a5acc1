"""What the codec learns from: the waveform and its mel spectrograms, and the teacher of its first codebook."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from modules.frames import length_mask
from modules.losses import cosine_over_time, distillation_over_channels, distillation_over_time
from modules.mel import LogMel

AXES = ("d_axis", "t_axis")


class Reconstruction(nn.Module):
    """l1_weight * mean absolute difference of the samples + the sum over k of mel_weights[k] * that of log-mel k.

    The spectrograms are HiFi-GAN's at several resolutions: 80 bands of the HTK scale between 0 and 8000 Hz, with
    Slaney's norm, of windows that are not centred. Small FFTs leave some bands empty.

    Args:
        l1_weight, mel_weights: as above.
        mel_sizes: samples of each FFT and of its Hann window.
        mel_hops: samples between two windows, of each.
        sample_rate: in Hz.

    Raises:
        ValueError: there is no spectrogram, or the three lists are of different lengths.
    """

    def __init__(
        self,
        *,
        l1_weight: float = 500.0,
        mel_weights: Sequence[float] = (45.0, 1.0, 1.0, 1.0),
        mel_sizes: Sequence[int] = (1024, 512, 256, 128),
        mel_hops: Sequence[int] = (240, 120, 60, 30),
        sample_rate: int = 16000,
    ):
        super().__init__()
        if not mel_sizes or not len(mel_weights) == len(mel_sizes) == len(mel_hops):
            raise ValueError(
                "mel_weights, mel_sizes and mel_hops must have one entry a spectrogram, and one at least, got "
                f"{list(mel_weights)}, {list(mel_sizes)} and {list(mel_hops)}"
            )
        self.l1_weight = l1_weight
        self.mel_weights = list(mel_weights)
        self.spectrograms = nn.ModuleList(
            LogMel(size=size, hop=hop, sample_rate=sample_rate, scale="htk", centred=False, eps=1e-9, allow_empty=True)
            for size, hop in zip(mel_sizes, mel_hops, strict=True)
        )

    @property
    def shortest(self) -> int:
        """Samples of the shortest signal of which all spectrograms can be made."""
        return max(mel.overhang + 1 for mel in self.spectrograms)

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """[B, T], [B, T] -> the weighted loss, and ``l1`` and ``mel`` (of the first spectrogram) without weights."""
        l1 = (output - target).abs().mean()
        mels = [
            (mel(output) - mel(target)).abs().mean()
            for k, (mel, weight) in enumerate(zip(self.spectrograms, self.mel_weights, strict=True))
            if weight or k == 0
        ]
        weights = [weight for k, weight in enumerate(self.mel_weights) if weight or k == 0]
        loss = weighted((self.l1_weight, l1), *zip(weights, mels, strict=True))
        return loss, {"l1": l1.detach(), "mel": mels[0].detach()}


class Distillation(nn.Module):
    """How far the first codebook is from what its teacher says.

    Args:
        axis: ``d_axis``, -log sigmoid of the cosine over time, channel by channel; or ``t_axis``, the mean absolute
            difference + ``similarity`` * -log sigmoid of the cosine over the channels, frame by frame.
        similarity: see there.

    Raises:
        ValueError: there is no such axis.
    """

    def __init__(self, *, axis: str = "d_axis", similarity: float = 1.0):
        super().__init__()
        if axis not in AXES:
            raise ValueError(f"distill_type must be one of {', '.join(AXES)}, got {axis!r}")
        self.axis = axis
        self.similarity = similarity

    def forward(
        self, student: torch.Tensor, teacher: torch.Tensor, frames: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Student [B, N, S], teacher [B, N', S], and of each row the frames [B] that count: up to min(N, N') of them.

        Returns:
            The loss and the mean cosine over time, both scalars: means over the items.
        """
        size = min(student.shape[1], teacher.shape[1])
        student, teacher = student[:, :size], teacher[:, :size]
        mask = length_mask(frames, size)
        if self.axis == "d_axis":
            loss = distillation_over_time(student, teacher, mask)
        else:
            loss = distillation_over_channels(student, teacher, mask, similarity=self.similarity)
        return loss.mean(), cosine_over_time(student.detach(), teacher, mask).mean()


def weighted(*terms: tuple[float, torch.Tensor]) -> torch.Tensor:
    """The sum of weights times terms; a term of weight 0 takes no part, so that its gradient is not computed."""
    return sum((weight * term for weight, term in terms if weight), terms[0][1].new_zeros(()))
