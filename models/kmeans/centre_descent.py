"""The optimizer of k-means: a centre is the mean of its frames, and one that has none begins anew elsewhere."""

from __future__ import annotations

import torch

from models.kmeans.codebooks import Codebooks
from modules.seeding import plus_plus


class CentreDescent(torch.optim.Optimizer):
    """Descends at the rate 1 / count, a centre's own, which makes it the mean of the frames that it has had.

    A mean over all frames remembers those of the first steps too, which were assigned when the centres were elsewhere.
    With a ``decay`` below 1 it forgets them, as codebooks of a VQ-VAE do (van den Oord et al., arXiv 1711.00937,
    appendix A.1), and comes nearer to what full passes of k-means would find.

    A centre without a frame for ``patience`` steps is put on a frame of the reservoir by k-means++, given those that
    are in use. The draws follow from the number of the step, so they are the same in all processes.

    Args:
        codebooks: to descend in.
        decay: what counts are multiplied with in each step; 1 forgets nothing, 0.99 remembers some 100 steps.
        patience: steps without a frame.

    Raises:
        ValueError: ``decay`` or ``patience`` is out of range.
    """

    def __init__(self, codebooks: Codebooks, *, decay: float = 1.0, patience: int = 50):
        if not 0 < decay <= 1 or patience < 1:
            raise ValueError(f"decay must be in (0, 1] and patience above 0, got {decay} and {patience}")
        # A schedule scales the rates of all centres alike.
        super().__init__([codebooks.centres, codebooks.counts], {"lr": 1.0})
        self.codebooks = codebooks
        self.decay = decay
        self.patience = patience

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take the gradients of one batch into the centres."""
        books, group, state = self.codebooks, self.param_groups[0], self.state[self.codebooks.counts]
        frames = books.counts.grad
        books.counts.mul_(self.decay).add_(frames)
        # Where the count is 0 the gradient is, too.
        rates = group["lr"] / books.counts.clamp(min=torch.finfo(frames.dtype).tiny)
        books.centres.addcmul_(books.centres.grad, rates[..., None], value=-1)
        books.idle.add_(1).mul_(frames == 0)
        state["step"] = state.get("step", 0) + 1
        dead = books.idle >= self.patience
        if dead.any():
            generator = torch.Generator().manual_seed(state["step"])
            for k in dead.any(-1).nonzero().flatten().tolist():
                self._reseed(k, dead[k], generator)

    def _reseed(self, k: int, dead: torch.Tensor, generator: torch.Generator) -> None:
        """Put the centres of codebook ``k`` that are ``dead`` [V] elsewhere, where they begin without a past."""
        books, count = self.codebooks, int(dead.sum())
        frames = books.reservoir[k]
        books.centres[k, dead] = plus_plus(frames, count, given=books.centres[k, ~dead], generator=generator)
        books.counts[k, dead] = 0
        books.idle[k, dead] = 0
        books.reseeded += count
