"""What becomes of a contour between its tracker and the network: normalised, or moved into another voice's range."""

from __future__ import annotations

import torch

Pair = tuple[float, float]  # mean and deviation of F0 in Hz


def normalise(
    f0: torch.Tensor,
    mean: torch.Tensor | float,
    std: torch.Tensor | float,
    *,
    median: torch.Tensor | float | None = None,
) -> torch.Tensor:
    """Voiced frames less the mean, by the deviation; the others stay exactly 0.

    Args:
        f0: [..., M] Hz, 0 = unvoiced.
        mean, std: of the source speaker, in Hz; scalars or [..., 1]. Without a deviation there is no division.
        median: in Hz; unvoiced frames get this first, and are normalised like the others.
    """
    mean, std = (torch.as_tensor(x, dtype=f0.dtype, device=f0.device) for x in (mean, std))
    if median is not None:
        f0 = torch.where(f0 == 0, torch.as_tensor(median, dtype=f0.dtype, device=f0.device), f0)
    return torch.where(f0 == 0, 0.0, (f0 - mean) / torch.where(std > 0, std, 1.0))


def voiced_median(f0: torch.Tensor) -> float:
    """The median in Hz of a contour's voiced frames, the mean of the middle two if they are even; 0 without any."""
    voiced = f0[f0 != 0]
    return float(voiced.double().quantile(0.5)) if len(voiced) else 0.0


def own_pair(f0: torch.Tensor) -> Pair | None:
    """Mean and deviation (over n) of a contour's voiced frames; None without any."""
    voiced = f0[f0 != 0].double()
    return (float(voiced.mean()), float(voiced.std(unbiased=False))) if len(voiced) else None


def moved(f0: torch.Tensor, target: Pair) -> torch.Tensor:
    """Voiced frames in Hz, brought from this utterance's mean and deviation (over n - 1) to the target's."""
    voiced = f0 != 0
    found = f0[voiced].double()
    if not len(found):
        return f0
    std = float(found.std()) if len(found) > 1 else 0.0
    scaled = (found - found.mean()) * (target[1] / std if std > 0 else 0.0) + target[0]
    result = f0.clone()
    result[voiced] = scaled.to(f0.dtype)
    return result
