"""A codec at 24 kHz that does nothing clever: what the house must serve without knowing anything of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from models.interfaces import Recording

LEVELS = 256


class DummyCodec(nn.Module):
    """Two tokens a frame of 480 samples: the level of its first sample, and that of its middle."""

    sample_rate = 24000
    hop_length = 480
    num_codebooks = 2
    vocab_size = LEVELS
    codebook_names = ("first", "middle")

    def encode(self, wav: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        frames = torch.nn.functional.pad(wav, (0, -wav.shape[1] % 480)).unflatten(1, (-1, 480))
        tokens = ((frames[..., [0, 240]] + 1) / 2 * (LEVELS - 1)).round().long().clamp(0, LEVELS - 1)
        if lengths is not None:
            tokens *= (torch.arange(tokens.shape[1]) < -(-lengths[:, None] // 480))[..., None]
        return tokens

    def encode_files(self, recordings: Sequence[Recording]) -> list[torch.Tensor]:
        return [self.encode(torch.as_tensor(recording.whole())[None])[0] for recording in recordings]

    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        levels = tokens.float() / (LEVELS - 1) * 2 - 1
        return levels[..., None].expand(*levels.shape, 240).flatten(1)

    def parts(self, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
        for some in tokens.split(50, dim=1):
            yield self.decode(some)

    def digest(self) -> str:
        return "dummy"
