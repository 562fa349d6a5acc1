"""Residual vector quantisation: each codebook quantises what those before it leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from modules.kmeans import full_precision, nearest
from modules.lloyd import k_means

EPS = 1e-5  # of the smoothed counts


class Processes(Protocol):
    """The processes that train together, among which a step's frames are divided."""

    rank: int
    count: int

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of every process's tensor, in every process."""
        ...


class OneProcess:
    rank, count = 0, 1

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        return values


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
    that all micro-batches of a step see the same codes.

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
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []  # [n, D] and [n, K] of each micro-batch of this step
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

    def forward(self, x: torch.Tensor) -> Quantised:
        """Latents [B, N, D] to tokens, the quantised latents and the commitment."""
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
                self.seen.append((x.detach().flatten(0, -2), tokens.flatten(0, -2)))
            return Quantised(
                tokens=tokens,
                sum=x + (total - x).detach(),
                first=first,
                commitment=commitment / self.num_codebooks,
            )

    @torch.no_grad()
    def update(self, *, seed: int, processes: Processes | None = None) -> None:
        """Take all latents that were seen since the last call, in all processes, into the codebooks.

        Where some of them are not finite, the codebooks stay as they are.

        Args:
            seed: of the residuals that dead codes begin on; it must differ from step to step, and not between
                processes.
            processes: those that share the step. What becomes of the codebooks does not depend on how many they are:
                the frames are in the order of micro-batch, process and place in the batch.
        """
        processes = processes or OneProcess()
        seen, self.seen = self.seen, []
        x = torch.cat([x for x, _ in seen]) if seen else self.embed.new_zeros(0, self.embed.shape[2])
        tokens = torch.cat([t for _, t in seen]) if seen else torch.zeros(0, self.num_codebooks, dtype=torch.int64)
        places, total = _places([len(part) for part, _ in seen], processes, x.device)
        if total == 0:
            return
        with full_precision(x.device):
            counts, sums, candidates = self._statistics(x, tokens.to(x.device), places, total, seed)
        counts, sums = processes.sum(counts), processes.sum(sums)
        is_finite = sums.isfinite().all()
        size = self.decay * self.cluster_size + (1 - self.decay) * counts
        average = self.decay * self.embed_avg + (1 - self.decay) * sums
        whole = size.sum(-1, keepdim=True)
        smooth = (size + EPS) / (whole + self.vocab_size * EPS) * whole
        embed = average / smooth[..., None]
        if candidates is not None:
            candidates = processes.sum(candidates)
            mean = size.mean(-1, keepdim=True).expand_as(size)
            dead = size < self.dead_code_share * mean
            embed = torch.where(dead[..., None], candidates, embed)
            size = torch.where(dead, mean, size)
            average = torch.where(dead[..., None], candidates * mean[..., None], average)
        for buffer, value in ((self.cluster_size, size), (self.embed_avg, average), (self.embed, embed)):
            buffer.copy_(torch.where(is_finite, value, buffer))

    def _statistics(
        self, x: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor, total: int, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Of this process's frames [n, D]: counts [K, V], sums of residuals [K, V, D], and what is drawn for each code.

        Of the residuals that are drawn for the codes, [K, V, D], a process knows its own, and has zeros elsewhere.
        """
        counts, sums, drawn = [], [], []
        generator = torch.Generator().manual_seed(seed)
        local = torch.full((total,), -1, device=x.device)
        local[places] = torch.arange(len(x), device=x.device)
        left = x
        for k in range(self.num_codebooks):
            mine = F.one_hot(tokens[:, k], self.vocab_size).float()
            counts.append(mine.sum(0))
            sums.append(mine.T @ left)  # a product, since sums by index have no fixed order on a GPU
            if self.dead_code_share:
                order = torch.randperm(total, generator=generator)
                chosen = local[order[torch.arange(self.vocab_size) % total].to(x.device)]
                found = left[chosen.clamp(min=0)] if len(left) else left.new_zeros(self.vocab_size, left.shape[1])
                drawn.append(torch.where((chosen >= 0)[:, None], found, 0.0))
            left = left - F.embedding(tokens[:, k], self.embed[k])
        return torch.stack(counts), torch.stack(sums), torch.stack(drawn) if drawn else None

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


def _places(shares: list[int], processes: Processes, device: torch.device) -> tuple[torch.Tensor, int]:
    """Where this process's frames stand among those of all, micro-batch by micro-batch, and how many these are.

    Args:
        shares: this process's frames of each micro-batch.
    """
    table = [shares]
    if processes.count > 1:
        lengths = torch.zeros(processes.count, dtype=torch.int64, device=device)
        lengths[processes.rank] = len(shares)
        longest = int(processes.sum(lengths).max())
        frames = torch.zeros(processes.count, longest, dtype=torch.int64, device=device)
        frames[processes.rank, : len(shares)] = torch.tensor(shares, dtype=torch.int64)
        table = processes.sum(frames).tolist()
    places, start = [torch.zeros(0, dtype=torch.int64)], 0
    for micro in range(max(map(len, table))):
        for rank, row in enumerate(table):
            size = row[micro] if micro < len(row) else 0
            if rank == processes.rank:
                places.append(torch.arange(start, start + size))
            start += size
    return torch.cat(places).to(device), start
