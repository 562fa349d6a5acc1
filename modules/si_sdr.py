"""Scale-invariant signal-to-distortion ratio of batches, as a loss and as a figure (arXiv 1811.02508)."""

from __future__ import annotations

import torch

from modules.frames import length_mask

EPS = 1e-8


def si_sdr(estimate: torch.Tensor, target: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
    """Of estimates e and targets s, both less their means: 10 log10(|p|^2 / (|e - p|^2 + 1e-8) + 1e-8), where
    p = <e, s> s / (<s, s> + 1e-8).

    In float32, whatever is given. Of a silent target it is -80 dB, and says nothing.

    Args:
        estimate, target: [B, T]; they are not changed.
        lengths: [B], the samples of each row that count; the rest is padding, whatever it holds. None: all.

    Returns:
        [B], in dB.

    Raises:
        ValueError: the shapes differ.
    """
    if estimate.shape != target.shape or estimate.ndim != 2:
        raise ValueError(
            f"estimate and target must both be [B, T], got {list(estimate.shape)} and {list(target.shape)}"
        )
    with torch.autocast(estimate.device.type, enabled=False):
        e, s = _centred(estimate.float(), lengths), _centred(target.float(), lengths)
        p = (e * s).sum(1, keepdim=True) * s / ((s * s).sum(1, keepdim=True) + EPS)
        ratio = (p * p).sum(1) / (((e - p) ** 2).sum(1) + EPS)
        return 10 * torch.log10(ratio + EPS)


def _centred(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Less its mean over what counts, and 0 elsewhere."""
    if lengths is None:
        return x - x.mean(dim=1, keepdim=True)
    mask = length_mask(lengths, x.shape[1])
    x = x.masked_fill(~mask, 0.0)  # not a product: padding may hold what is not finite
    mean = x.sum(1, keepdim=True) / lengths.clamp(min=1)[:, None]
    return (x - mean).masked_fill(~mask, 0.0)
