"""One codebook that follows the vectors nearest to it, as Jukebox's bottleneck (arXiv 2005.00341)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from modules.draw import draw
from modules.kmeans import full_precision, nearest


class EMACodebook(nn.Module):
    """Vectors [B, L, D] to the nearest of V codes; the gradient goes straight to the vectors.

    With counts c and sums s of a step's vectors by code, k_sum and k_elem follow s and c with weight 1 - mu, and a code
    is k_sum / k_elem where k_elem is ``threshold`` or more, and else one of the step's vectors. In training mode,
    ``forward`` keeps what it has seen until ``update``: what becomes of the codes does not depend on how a step is
    divided.

    Args:
        vocab_size: V.
        dim: D.
        mu, threshold: as above.
    """

    def __init__(self, *, vocab_size: int, dim: int, mu: float = 0.99, threshold: float = 1.0):
        super().__init__()
        if not 0 <= mu < 1:
            raise ValueError(f"mu must be in [0, 1), got {mu}")
        self.mu = mu
        self.threshold = threshold
        self.register_buffer("k", torch.zeros(vocab_size, dim))
        self.register_buffer("k_sum", torch.zeros(vocab_size, dim))
        self.register_buffer("k_elem", torch.zeros(vocab_size))
        self.register_buffer("inited", torch.zeros(()))
        self._seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    @property
    def vocab_size(self) -> int:
        return len(self.k)

    @torch.no_grad()
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors [..., D] -> codes [...] int64, always in float32."""
        with full_precision(x.device):
            return nearest(x.float(), self.k)

    def rows(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [...] -> [..., D]."""
        return F.embedding(codes, self.k)

    def forward(
        self, x: torch.Tensor, places: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Vectors [B, L, D] -> codes [B, L], their rows [B, L, D], and the commitment, a mean square.

        Args:
            places: [B], the number of each item in its step; None: as they come.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            codes = self.encode(x.detach())
            rows = self.rows(codes)
            if self.training:
                places = torch.arange(len(x), device=x.device) if places is None else places
                self._seen.append((x.detach(), codes, places))
            return codes, x + (rows - x).detach(), (rows.detach() - x).square().mean()

    @torch.no_grad()
    def start(self, vectors: torch.Tensor, *, seed: int = 0) -> None:
        """Put the codes on vectors [n, D] in random order, all with a count of 1."""
        places = torch.arange(len(vectors), device=vectors.device)
        items = torch.tensor(len(vectors), device=vectors.device)
        place, _ = draw((1, self.vocab_size), items=items, frames=1, places=places, seed=seed)
        self.begin(vectors.float()[place[0]] + self._spread(len(vectors), seed).to(vectors.device))

    @torch.no_grad()
    def begin(self, rows: torch.Tensor) -> None:
        """Go on from codes [V, D] of which nothing else is known."""
        self.k.copy_(rows)
        self.k_sum.copy_(rows)
        self.k_elem.fill_(1)
        self.inited.fill_(1)

    @torch.no_grad()
    def update(
        self,
        *,
        seed: int,
        sum_over_processes: Callable[[torch.Tensor], torch.Tensor] = lambda values: values,
        taken: torch.Tensor | bool = True,
        drawn: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Take in all vectors that were seen since the last call, in all processes.

        Args:
            seed: of the vectors that rare codes begin on; another one in each step, the same in all processes.
            sum_over_processes: gives the sum of every process's tensor, in every process.
            taken: if it is False, the vectors are dropped.
            drawn: [V, D], what rare codes begin on, in place of a draw.

        Returns:
            [V], how many vectors had each code.
        """
        seen, self._seen = self._seen, []
        if seen:
            x, codes, places = (torch.cat(parts) for parts in zip(*seen, strict=True))
        else:
            x, codes = self.k.new_zeros(0, 1, self.k.shape[1]), torch.zeros(0, 1, dtype=torch.int64)
            places = torch.zeros(0, dtype=torch.int64)
            codes, places = codes.to(self.k.device), places.to(self.k.device)
        mine = F.one_hot(codes.flatten(), self.vocab_size).float()
        with full_precision(x.device):
            sums = mine.T @ x.flatten(0, 1)  # a product, since sums by index have no fixed order on a GPU
        counts, sums = sum_over_processes(mine.sum(0)), sum_over_processes(sums)
        if drawn is None:
            drawn = self._drawn(x, places, counts.sum(), seed, sum_over_processes)
        k_sum = self.mu * self.k_sum + (1 - self.mu) * sums
        k_elem = self.mu * self.k_elem + (1 - self.mu) * counts
        k = torch.where((k_elem >= self.threshold)[:, None], k_sum / k_elem[:, None], drawn)
        is_sound = sums.isfinite().all() & (counts.sum() > 0) & taken
        for buffer, value in ((self.k, k), (self.k_sum, k_sum), (self.k_elem, k_elem)):
            buffer.copy_(torch.where(is_sound, value, buffer))
        return counts

    def _drawn(
        self,
        x: torch.Tensor,
        places: torch.Tensor,
        total: torch.Tensor,
        seed: int,
        sum_over_processes: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Vectors of the step [V, D] in random order; repeated, and moved a little, where there are too few."""
        frames = x.shape[1]
        items = (total / frames).long().clamp(min=1)
        place, is_here = draw((1, self.vocab_size), items=items, frames=frames, places=places, seed=seed)
        found = torch.zeros_like(self.k)
        if len(x):
            found = torch.where(is_here[0, :, None], x.flatten(0, 1)[place[0]], 0.0)
        found = sum_over_processes(found)
        return found + torch.where(total < self.vocab_size, self._spread(0, seed).to(found.device), 0.0)

    def _spread(self, vectors: int, seed: int) -> torch.Tensor:
        """What tells repeated vectors apart; nothing where there are enough of them."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(self.k.shape, generator=generator) * 0.01 / self.k.shape[1] ** 0.5
        return noise if vectors < self.vocab_size else torch.zeros_like(noise)
