"""How the F0 quantiser of speech resynthesis trains, and what its training shares with the vocoder's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.resynthesis.contours import normalise
from models.resynthesis.files import QUANTIZER, public_state, quantiser_tensors, write_generator
from models.resynthesis.network import ContourCodec
from models.resynthesis.public_config import public_config, quantiser_settings
from modules.ema_codebook import EMACodebook
from utils.task import Batch, Networks, Objective, Task


class CodebookTask(Task):
    """What both trainings share: codebooks that follow their vectors after each step that was taken."""

    steps_done = 0

    def codebooks(self) -> dict[str, EMACodebook]:
        """Those that learn here, by name."""
        return {}

    def begin_step(self, step: int) -> None:
        self.steps_done = step + 1

    def end_step(self, sum_over_processes: Callable[[torch.Tensor], torch.Tensor]) -> None:
        books = self.codebooks()
        if not books:
            return
        gradients = [p.grad for network in self.networks().values() for p in network.parameters() if p.grad is not None]
        taken = nn.utils.get_total_norm(gradients).isfinite()  # a step whose gradient is not is not taken
        for name, book in books.items():
            counts = book.update(seed=self.steps_done, sum_over_processes=sum_over_processes, taken=taken)
            self.saw(name, counts)

    def saw(self, name: str, counts: torch.Tensor) -> None:
        """How many vectors of a step had each code of a codebook."""


class ContourQuantisation(CodebookTask):
    """Training of the F0 quantiser: mean squared error over all frames of the normalised contour, and commitment.

    A batch holds ``f0`` [B, M] in Hz, ``f0_stats`` [B, 2] and ``f0_median`` [B] to normalise it by, and ``index`` [B].
    Validation tells ``loss``, ``mse``, ``commit``, and ``used_codes``: those that vectors had since the last one.

    Args:
        quantizer: what trains.
        optimizer: makes the optimizer of its parameters.
        commit_weight: of the commitment.
        f0_normalize, f0_median: what becomes of a contour, see ``models.resynthesis.contours``.
    """

    def __init__(
        self,
        *,
        quantizer: ContourCodec,
        optimizer: Callable[..., torch.optim.Optimizer],
        commit_weight: float = 0.02,
        f0_normalize: bool = True,
        f0_median: bool = False,
    ):
        super().__init__()
        self.quantizer = quantizer
        self.make_optimizer = optimizer
        self.commit_weight = commit_weight
        self.f0_normalize = f0_normalize
        self.f0_median = f0_median
        self.register_buffer("seen", torch.zeros(quantizer.codes), persistent=False)

    def networks(self) -> dict[str, nn.Module]:
        return {QUANTIZER: self.quantizer}

    def codebooks(self) -> dict[str, EMACodebook]:
        return {QUANTIZER: self.quantizer.vq}

    def settings(self) -> dict[str, Any]:
        return {"f0_sizes": self.quantizer.sizes, "f0_normalize": self.f0_normalize}

    def adopt(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if any(name.startswith(f"{QUANTIZER}.") for name in tensors):
            return tensors
        public = {n.removeprefix("generator."): x for n, x in tensors.items() if n.startswith("generator.")}
        return {f"{QUANTIZER}.{name}": x for name, x in quantiser_tensors(self.quantizer, public).items()}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {QUANTIZER: self.make_optimizer(self.quantizer.parameters())}

    @torch.no_grad()
    def prepare(self, batches: Iterator[Batch], *, loaded: frozenset[str]) -> None:
        if QUANTIZER not in loaded:
            self.quantizer.vq.start(self.quantizer.latents(self._contours(next(batches))).flatten(0, 1))

    def begin_epoch(self, epoch: int) -> None:
        self.seen.zero_()

    def saw(self, name: str, counts: torch.Tensor) -> None:
        self.seen += counts

    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        contours = self._contours(batch)
        found, commitment, _ = networks[QUANTIZER](contours, batch["index"])
        mse = (found.float() - contours).square().mean()
        loss = mse + self.commit_weight * commitment
        metrics = {"loss": loss.detach(), "mse": mse.detach(), "commit": commitment.detach()}
        yield Objective(QUANTIZER, loss, metrics)

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, int]]:
        contours, items = self._contours(batch), len(batch["f0"])
        with torch.autocast(contours.device.type, enabled=False):
            found, commitment, _ = self.quantizer(contours)
        mse = (found - contours).square().mean()
        values = {"loss": mse + self.commit_weight * commitment, "mse": mse, "commit": commitment}
        if self.seen.any():
            values["used_codes"] = (self.seen > 0).sum()
        return {name: (value * items, items) for name, value in values.items()}

    def export(self, folder: Path) -> list[Path]:
        """Write ``g_########`` and ``config.json``, which public code reads, and ``f0_quantizer_path`` names."""
        config = public_config(quantiser_settings(self.quantizer))
        wrapped = nn.Module()
        wrapped.quantizer = self.quantizer
        state = {name.removeprefix("quantizer."): x for name, x in public_state(wrapped).items()}
        return write_generator(folder, state, step=self.steps_done, config=config)

    def _contours(self, batch: Batch) -> torch.Tensor:
        return prepared_contours(batch, normalized=self.f0_normalize, median=self.f0_median)


def prepared_contours(batch: Batch, *, normalized: bool, median: bool) -> torch.Tensor:
    """``f0`` [B, M] of a batch as a network takes it."""
    f0 = batch["f0"].float()
    if not normalized:
        return f0
    mean, std = batch["f0_stats"].float()[:, :1], batch["f0_stats"].float()[:, 1:]
    return normalise(f0, mean, std, median=batch["f0_median"].float()[:, None] if median else None)
