"""Spans of frames to hide from a network that is to predict them."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def span_mask(
    frames: torch.Tensor, size: int, *, probability: float, length: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Every frame begins a span with the same probability; spans may overlap (wav2vec 2.0, arXiv 2006.11477).

    About 1 - (1 - probability) ** length of all frames are hidden: with HuBERT's 0.08 and 10, 57 %.

    Args:
        frames: [B] frames that each row has.
        size: N, columns of the mask.
        probability: of a span's beginning.
        length: frames of a span.
        generator: of the draws, on the CPU; None: torch's own.

    Returns:
        [B, N] bool, True where hidden; at least one frame of each row that has any, and none beyond a row's own.
    """
    if not 0 < probability <= 1 or length < 1:
        raise ValueError(f"probability must be in (0, 1] and length above 0, got {probability} and {length}")
    own = torch.arange(size, device=frames.device) < frames[:, None]
    begins = (torch.rand(len(frames), size, generator=generator).to(frames.device) < probability) & own
    # a row whose draw begins no span gets one, at a place drawn for it
    place = (torch.rand(len(frames), generator=generator).to(frames.device) * frames).long()
    begins |= (torch.arange(size, device=frames.device) == place[:, None]) & ~begins.any(dim=1, keepdim=True) & own
    padded = F.pad(begins.float(), (length - 1, 0))
    return F.max_pool1d(padded[:, None], length, stride=1)[:, 0].bool() & own
