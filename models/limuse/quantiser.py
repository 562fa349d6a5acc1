"""Few-bit weights with trained scales (arXiv 1911.09464 by way of arXiv 2111.04063), and rounded activations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

THRESHOLDS = ("kmeans", "uniform")
HIGHEST_TEMPERATURE = 2000.0
ROOM = 1.25  # how far beyond the outermost level the largest weight is scaled at the start
_CLIP = 20.0  # of a sigmoid's argument
_ITERATIONS = 1000  # of k-means; in one dimension they cost next to nothing


class WeightQuantiser(nn.Module):
    """Weights as alpha times a whole number in -m..m, m = 2^(bits - 1) - 1.

    The number is how many of a tensor's thresholds lie below beta w, less m. In training each step is a sigmoid, so
    that weights, alpha and beta learn:

        alpha (sum_i sigmoid(clip(temperature (beta w - t_i), -20, 20)) - m)

    Args:
        count: of quantised tensors, nq.
        bits: of a weight, 2 to 8.
    """

    def __init__(self, *, count: int, bits: int):
        super().__init__()
        require_weight_bits(bits)
        self.bits = bits
        self.m = 2 ** (bits - 1) - 1
        self.alpha = nn.Parameter(torch.ones(count))
        self.beta = nn.Parameter(torch.ones(count))
        self.register_buffer("thresholds", uniform_thresholds(self.m).repeat(count, 1))

    @torch.no_grad()
    def start(self, weights: Sequence[torch.Tensor], thresholds: str = "kmeans") -> None:
        """Take alpha, beta and the thresholds from float weights, in the order of the rows."""
        for i, (alpha, beta, steps) in enumerate(starts(weights, self.bits, thresholds)):
            self.alpha[i], self.beta[i], self.thresholds[i] = alpha, beta, steps

    def codes(self, weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Of each weight how many thresholds lie below beta w: uint8, 0 to 2 m."""
        rows = zip(weights, self.beta, self.thresholds, strict=True)
        return [torch.bucketize(beta * w, steps).to(torch.uint8) for w, beta, steps in rows]

    def hard(self, weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What the weights are in validation and in use."""
        pairs = zip(self.alpha, self.codes(weights), strict=True)
        return [from_codes(alpha, codes, self.m) for alpha, codes in pairs]

    def soft(self, weights: Sequence[torch.Tensor], temperature: float) -> list[torch.Tensor]:
        """What they are in training. All are one vector meanwhile: hundreds of small tensors take longer."""
        sizes = [w.numel() for w in weights]
        scaled = torch.cat([beta * w.reshape(-1) for w, beta in zip(weights, self.beta, strict=True)])
        rows = torch.repeat_interleave(
            torch.arange(len(sizes), device=scaled.device), torch.tensor(sizes, device=scaled.device)
        )
        parts = _Steps.apply(scaled, self.thresholds, rows, temperature).split(sizes)
        return [alpha * (x - self.m).view_as(w) for x, alpha, w in zip(parts, self.alpha, weights, strict=True)]


class _Steps(torch.autograd.Function):
    """The sum of the sigmoids: [P] -> [P], one threshold at a time, so that many bits do not take much memory."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, thresholds: torch.Tensor, rows: torch.Tensor, temperature: float):
        ctx.save_for_backward(x, thresholds, rows)
        ctx.temperature = temperature
        found = torch.zeros_like(x)
        for steps in thresholds.T:
            found += torch.sigmoid(((x - steps[rows]) * temperature).clamp_(-_CLIP, _CLIP))
        return found

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        x, thresholds, rows = ctx.saved_tensors
        slope = torch.zeros_like(x)
        for steps in thresholds.T:
            z = (x - steps[rows]) * ctx.temperature
            s = torch.sigmoid(z)
            slope += (s * (1 - s)).masked_fill_(z.abs() > _CLIP, 0.0)
        return gradient * slope * ctx.temperature, None, None, None


class _Rounded(torch.autograd.Function):
    """Rounding whose gradient is that of the identity."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, bits: int, examples: int) -> torch.Tensor:
        return _rounded(x, bits, examples)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        return gradient, None, None


def round_activations(x: torch.Tensor, bits: int | None, examples: int) -> torch.Tensor:
    """``x`` in 2^bits steps between the smallest and the largest value of each example; the gradient passes as it is.

    Args:
        x: its first axes hold ``examples`` examples, each in one stretch.
        bits: None leaves it.
        examples: B; each has a range of its own, so no example depends on another.
    """
    if bits is None:
        return x
    return _Rounded.apply(x, bits, examples) if x.requires_grad else _rounded(x, bits, examples)


def _rounded(x: torch.Tensor, bits: int, examples: int) -> torch.Tensor:
    flat = x.reshape(examples, -1)
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    step = (high - low) / (2**bits - 1)
    varies = step > 0  # what is constant stays as it is
    found = torch.round((flat - low) / torch.where(varies, step, 1.0)) * step + low
    return torch.where(varies, found, flat).view(x.shape)


def from_codes(alpha: torch.Tensor, codes: torch.Tensor, m: int) -> torch.Tensor:
    """alpha (code - m), float32."""
    return alpha * (codes.float() - m)


def require_weight_bits(bits: int) -> None:
    """Raise a ValueError unless weights can be of so many bits."""
    if not isinstance(bits, int) or not 2 <= bits <= 8:
        raise ValueError(f"weight_bits must be a whole number from 2 to 8, got {bits}")


def starts(
    weights: Sequence[torch.Tensor], bits: int, thresholds: str = "kmeans"
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """alpha, beta and the thresholds [2 m] that stage 2 begins with, of each tensor.

    The largest weight comes to 1.25 m, and alpha undoes beta. From 5 bits up ``uniform`` is better: the code of a
    k-means cluster is its index, not the nearest level.

    Raises:
        ValueError: there is no such way to set thresholds.
    """
    require_weight_bits(bits)
    if thresholds not in THRESHOLDS:
        raise ValueError(f"thresholds must be one of {', '.join(THRESHOLDS)}, got {thresholds!r}")
    m, found = 2 ** (bits - 1) - 1, []
    for w in weights:
        peak = w.detach().abs().max().float().cpu()
        beta = ROOM * m / peak
        if not beta.isfinite():  # zeros, or next to nothing
            beta = torch.ones(())
        scaled = beta * w.detach().reshape(-1).float().cpu()
        steps = kmeans_thresholds(scaled, m) if thresholds == "kmeans" else uniform_thresholds(m)
        found.append((1 / beta, beta, steps))
    return found


def uniform_thresholds(m: int) -> torch.Tensor:
    """Midway between the levels, [2 m]: each value gets the level next to it."""
    return torch.arange(1, 2 * m + 1) - m - 0.5


def kmeans_thresholds(values: torch.Tensor, m: int) -> torch.Tensor:
    """Between 2 m + 1 clusters of the values, [2 m], ascending.

    Lloyd's algorithm from equally filled clusters; nothing is drawn. Values of which there are fewer different ones
    than levels make no clusters to speak of, and get the uniform thresholds.
    """
    different, counts = torch.unique(values.double(), return_counts=True)  # sorted
    k = 2 * m + 1
    if len(different) < k:
        return uniform_thresholds(m)
    zero = torch.zeros(1, dtype=torch.float64)
    number = torch.cat([zero, counts.double().cumsum(0)])
    total = torch.cat([zero, (different * counts).cumsum(0)])
    square = torch.cat([zero, (different.square() * counts).cumsum(0)])
    first = torch.arange(k + 1) * len(different) // k  # cluster i holds different[first[i] : first[i + 1]]
    for _ in range(_ITERATIONS):
        mean = total[first].diff() / number[first].diff()
        between = torch.searchsorted(different, (mean[1:] + mean[:-1]) / 2)
        moved = torch.cat([first[:1], between, first[-1:]])
        while (empty := (moved.diff() <= 0).nonzero()).numel():
            moved = _refilled(moved, int(empty[0]), number, total, square)
        if torch.equal(moved, first):
            break
        first = moved
    inner = first[1:-1]
    return ((different[inner - 1] + different[inner]) / 2).float()


def _refilled(first: torch.Tensor, empty: int, number, total, square) -> torch.Tensor:
    """The bounds without an empty cluster, and with the cluster of the largest squared error cut in two."""
    kept = torch.cat([first[:empty], first[empty + 1 :]])
    n, s, q = (x[kept].diff() for x in (number, total, square))
    error = torch.where(kept.diff() > 1, q - s * s / n.clamp(min=1), -1.0)
    widest = int(error.argmax())
    middle = (kept[widest] + kept[widest + 1]) // 2
    return torch.cat([kept[: widest + 1], middle[None], kept[widest + 1 :]])
