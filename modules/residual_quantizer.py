"""Residual vector quantisation: each codebook quantises what those before it leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from modules.draw import draw
from modules.kmeans import full_precision, nearest
from modules.lloyd import k_means

EPS = 1e-5  # of the smoothed counts


@dataclass(frozen=True)
class Quantised:
    """What a batch of latents becomes.

    Attributes:
        tokens: [B, N, K] int64.
        sum: [B, N, D], the sum of the codebooks' rows; its gradient goes straight to the latents.
        first: [B, N, D], the row of the first codebook; its gradient goes straight to the latents.
        commitment: a scalar, the mean over all codebooks of the mean square of what each of them leaves.
    """

    tokens: torch.Tensor
    sum: torch.Tensor
    first: torch.Tensor
    commitment: torch.Tensor


class ResidualQuantizer(nn.Module):
    """K codebooks of V rows, learned as moving averages of the residuals that are nearest to them.

    r_1 is the latent, the token of codebook i is the row e_i nearest to r_i (Euclidean, always in float32), and
    r_{i+1} = r_i - e_i. Rows follow their residuals as in van den Oord et al. (arXiv 1711.00937, appendix A.1); rows
    that nothing comes to begin anew on a residual of the batch (Dhariwal et al., arXiv 2005.00341).

    In training mode, ``forward`` keeps the latents that it has seen until ``update`` takes them into the codebooks, so
    that all micro-batches of a step see the same codes. What becomes of the codebooks does not depend on how a step is
    divided into micro-batches and over processes.

    Args:
        num_codebooks: K.
        vocab_size: V, rows of a codebook.
        dim: D.
        decay: of the moving averages.
        dead_code_share: a row whose count is below this share of its codebook's mean begins anew; 0: none does.

    Raises:
        ValueError: ``decay`` or ``dead_code_share`` is outside [0, 1).
    """

    def __init__(
        self, *, num_codebooks: int, vocab_size: int, dim: int, decay: float = 0.99, dead_code_share: float = 0.1
    ):
        super().__init__()
        if not 0 <= decay < 1 or not 0 <= dead_code_share < 1:
            raise ValueError(f"codebook_decay and dead_code_share must be in [0, 1), got {decay} and {dead_code_share}")
        self.decay = decay
        self.dead_code_share = dead_code_share
        self.register_buffer("inited", torch.zeros(num_codebooks))
        self.register_buffer("cluster_size", torch.zeros(num_codebooks, vocab_size))
        self.register_buffer("embed", torch.zeros(num_codebooks, vocab_size, dim))
        self.register_buffer("embed_avg", torch.zeros(num_codebooks, vocab_size, dim))
        # Latents [B, N, D], tokens [B, N, K] and places [B] of the micro-batches of this step.
        self._seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._norms: tuple[tuple[int, int], torch.Tensor] | None = None

    @property
    def num_codebooks(self) -> int:
        return self.embed.shape[0]

    @property
    def vocab_size(self) -> int:
        return self.embed.shape[1]

    @torch.no_grad()
    def encode(self, x: torch.Tensor, codebooks: int | None = None) -> torch.Tensor:
        """Tokens [..., K] int64 of latents [..., D], of the first ``codebooks``; None: of all of them."""
        count = self.num_codebooks if codebooks is None else codebooks
        residual, tokens, norms = x.float(), [], self._squared_norms()
        with full_precision(x.device):
            for k in range(count):
                tokens.append(nearest(residual, self.embed[k], norms[k]))
                if k < count - 1:
                    residual = residual - F.embedding(tokens[k], self.embed[k])
        return torch.stack(tokens, dim=-1)

    def dequantise(self, tokens: torch.Tensor, first_codebook: int = 0) -> torch.Tensor:
        """The sum [..., D] of rows: column j of tokens [..., k] is looked up in codebook ``first_codebook + j``."""
        tokens = tokens.long()
        total = F.embedding(tokens[..., 0], self.embed[first_codebook])
        for k in range(1, tokens.shape[-1]):
            total = total + F.embedding(tokens[..., k], self.embed[first_codebook + k])
        return total

    def forward(self, x: torch.Tensor, places: torch.Tensor | None = None) -> Quantised:
        """Latents [B, N, D] to tokens, the quantised latents and the commitment.

        Args:
            places: [B], the number of each item among those that all processes have in this step, up to a constant.
                Only dead codes need it, to begin anew on the same residuals however a step is divided. None: as they
                come, which is for one process without micro-batches.
        """
        x = x.float()
        tokens = self.encode(x.detach())
        with torch.autocast(x.device.type, enabled=False):
            left, commitment, total = x, x.new_zeros(()), torch.zeros_like(x)
            for k in range(self.num_codebooks):
                row = F.embedding(tokens[..., k], self.embed[k])
                commitment = commitment + (left - row).square().mean()
                left, total = left - row, total + row
                if k == 0:
                    first = x + (row - x).detach()
            if self.training:
                places = torch.arange(len(x), device=x.device) if places is None else places
                self._seen.append((x.detach(), tokens, places))
            return Quantised(
                tokens=tokens,
                sum=x + (total - x).detach(),
                first=first,
                commitment=commitment / self.num_codebooks,
            )

    def forget(self) -> None:
        """Drop what was seen since the last update."""
        self._seen = []

    @torch.no_grad()
    def update(
        self,
        *,
        seed: int,
        sum_over_processes: Callable[[torch.Tensor], torch.Tensor] = lambda values: values,
        taken: torch.Tensor | bool = True,
    ) -> torch.Tensor:
        """Take all latents that were seen since the last call, in all processes, into the codebooks.

        Where some of them are not finite, the codebooks stay as they are.

        Args:
            seed: of the residuals that dead codes begin on; it must differ from step to step, and not between
                processes.
            sum_over_processes: gives the sum of every process's tensor, in every process.
            taken: a bool; if it is False, the latents are dropped: the optimizer's step was not taken either.

        Returns:
            How many frames had each code, [K, V].
        """
        seen, self._seen = self._seen, []
        dim = self.embed.shape[2]
        if seen:
            x, tokens, places = (torch.cat(parts) for parts in zip(*seen, strict=True))
        else:
            x, tokens = self.embed.new_zeros(0, 1, dim), self.embed.new_zeros(0, 1, self.num_codebooks).long()
            places = tokens.new_zeros(0)
        counts, sums = self._statistics(x.flatten(0, 1), tokens.flatten(0, 1))
        counts, sums = sum_over_processes(counts), sum_over_processes(sums)
        size = self.decay * self.cluster_size + (1 - self.decay) * counts
        average = self.decay * self.embed_avg + (1 - self.decay) * sums
        whole = size.sum(-1, keepdim=True)
        smooth = (size + EPS) / (whole + self.vocab_size * EPS) * whole
        embed = average / smooth[..., None]
        if self.dead_code_share:
            drawn, is_there = self._drawn(x, tokens, places, counts[0].sum(), sum_over_processes, seed)
            mean = size.mean(-1, keepdim=True).expand_as(size)
            dead = (size < self.dead_code_share * mean) & is_there
            embed = torch.where(dead[..., None], drawn, embed)
            size = torch.where(dead, mean, size)
            average = torch.where(dead[..., None], drawn * mean[..., None], average)
        is_sound = sums.isfinite().all() & (counts.sum() > 0) & taken
        for buffer, value in ((self.cluster_size, size), (self.embed_avg, average), (self.embed, embed)):
            buffer.copy_(torch.where(is_sound, value, buffer))
        return counts

    def _statistics(self, x: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of frames [n, D] with tokens [n, K]: how many each code has, [K, V], and their residuals' sum, [K, V, D]."""
        counts, sums, left = [], [], x
        with full_precision(x.device):
            for k in range(self.num_codebooks):
                mine = F.one_hot(tokens[:, k], self.vocab_size).float()
                counts.append(mine.sum(0))
                sums.append(mine.T @ left)  # a product, since sums by index have no fixed order on a GPU
                left = left - F.embedding(tokens[:, k], self.embed[k])
        return torch.stack(counts), torch.stack(sums)

    def _drawn(
        self,
        x: torch.Tensor,
        tokens: torch.Tensor,
        places: torch.Tensor,
        total: torch.Tensor,
        sum_over_processes: Callable[[torch.Tensor], torch.Tensor],
        seed: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """For each code a residual of its codebook, [K, V, D], and whether there is one, [K, V].

        They differ as far as there are as many frames as codes, and do not depend on who has which item: a draw names
        a frame among the ``total`` of all processes, and who has it tells it to the others.
        """
        shape = self.num_codebooks, self.vocab_size
        frames = x.shape[1]
        items = (total / frames).long().clamp(min=1)  # all items have as many frames
        place, is_mine = draw(shape, items=items, frames=frames, places=places, seed=seed)
        found = x.new_zeros(shape)
        drawn = x.new_zeros(*shape, x.shape[2])
        if len(x):
            found = is_mine.to(x.dtype)
            flat, codes = x.flatten(0, 1), tokens.flatten(0, 1)
            for k in range(shape[0]):
                left = flat[place[k]]
                for earlier in range(k):
                    left = left - F.embedding(codes[place[k], earlier], self.embed[earlier])
                drawn[k] = torch.where(found[k, :, None] > 0, left, 0.0)
        found, drawn = sum_over_processes(found), sum_over_processes(drawn)
        return drawn / found.clamp(min=1)[..., None], found > 0

    @torch.no_grad()
    def start(self, vectors: torch.Tensor, *, iterations: int = 10, generator: torch.Generator | None = None) -> None:
        """Put the codes on k-means centres of latents [n, D], codebook by codebook on what those before it leave."""
        left = vectors.float()
        for k in range(self.num_codebooks):
            centres, counts = k_means(left, self.vocab_size, iterations=iterations, generator=generator)
            self.embed[k], self.cluster_size[k], self.embed_avg[k] = centres, counts, centres * counts[:, None]
            with full_precision(left.device):
                left = left - F.embedding(nearest(left, centres), centres)
        self.inited.fill_(1)

    def _squared_norms(self) -> torch.Tensor:
        """[K, V], computed again only when the codes have changed."""
        key = self.embed.data_ptr(), self.embed._version
        if self._norms is None or self._norms[0] != key:
            self._norms = key, self.embed.square().sum(dim=-1)
        return self._norms[1]
