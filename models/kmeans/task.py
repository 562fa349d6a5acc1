"""How codebooks are fitted: one for each layer of an encoder, all in one pass over the data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from models.kmeans.centre_descent import CentreDescent
from models.kmeans.codebooks import Codebooks
from models.kmeans.files import write_kmeans, write_released_kmeans
from modules.codebook_use import histogram, perplexity, usage
from modules.frames import length_mask
from modules.frozen import Frozen
from modules.seeding import plus_plus, sample_frames
from utils.precision import autocast, require_known
from utils.task import Batch, Networks, Objective, Task

FORMATS = ("safetensors", "released")
DTYPES = {"float32": torch.float32, "float16": torch.float16}
# Rows that are encoded at a time for the reservoir, whose batches are whole whatever a step is divided into.
ROWS = 8


class LayerKMeans(Task):
    """Mini-batch k-means of the features of each of an encoder's layers.

    The centres begin by k-means++ on a reservoir of frames from the first batches, see ``Codebooks`` and
    ``CentreDescent`` for how they go on. The inertia is the mean squared distance of a frame to its centre; usage and
    perplexity are those of the frames that the centres have had, as far as they remember them.

    A batch holds ``wav`` [B, T] and ``length`` [B], the samples of each row that are not padding.

    Args:
        encoder: ``models.wavlm.WavLM`` or anything frozen with its interface.
        num_clusters: V, centres of a layer.
        decay: of the counts in each step, see ``CentreDescent``.
        patience: steps without a frame after which a centre is moved.
        reservoir_frames: frames to start from, and to move centres to; they stay on the device.
        reservoir_batches: batches that these are drawn from.
        precision: of the encoder (``fp32``, ``tf32``, ``bf16`` or ``fp16``); all else is float32.
        export_format: ``safetensors``, or ``released`` for the layout of the public k-means files.
        export_dtype: of centres in safetensors, ``float32`` or ``float16``.
        export_name: what the files of the released layout begin with.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        encoder: Frozen,
        num_clusters: int,
        decay: float = 1.0,
        patience: int = 50,
        reservoir_frames: int = 20000,
        reservoir_batches: int = 8,
        precision: str = "fp32",
        export_format: str = "safetensors",
        export_dtype: str = "float32",
        export_name: str = "LibriSpeech_wavlm",
    ):
        super().__init__()
        require_known(precision)
        if num_clusters < 1 or reservoir_batches < 1:
            raise ValueError(
                f"num_clusters and reservoir_batches must be above 0, got {num_clusters} and {reservoir_batches}"
            )
        if reservoir_frames < num_clusters:
            raise ValueError(
                f"reservoir_frames must be at least num_clusters, got {reservoir_frames} and {num_clusters}"
            )
        if export_format not in FORMATS or export_dtype not in DTYPES:
            raise ValueError(
                f"export_format must be one of {', '.join(FORMATS)} and export_dtype one of {', '.join(DTYPES)}, "
                f"got {export_format!r} and {export_dtype!r}"
            )
        self.encoder = encoder
        self.codebooks = Codebooks(num_codebooks=len(encoder.layers), vocab_size=num_clusters, dim=encoder.dim)
        self.names = tuple(f"layer_{layer}" for layer in encoder.layers)
        self.num_clusters = num_clusters
        self.decay = decay
        self.patience = patience
        self.reservoir_frames = reservoir_frames
        self.reservoir_batches = reservoir_batches
        self.precision = precision
        self.export_format = export_format
        self.export_dtype = export_dtype
        self.export_name = export_name

    def networks(self) -> dict[str, nn.Module]:
        return {"codebooks": self.codebooks}

    def frozen(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}

    def settings(self) -> dict[str, object]:
        return {"codebooks": list(self.names)}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"codebooks": CentreDescent(self.codebooks, decay=self.decay, patience=self.patience)}

    @torch.no_grad()
    def prepare(self, batches: Iterator[Batch], *, loaded: frozenset[str] = frozenset()) -> None:
        """Fill the reservoir and put the centres on frames of it, but for centres that were loaded.

        Raises:
            ValueError: there are too few frames, or too few that differ.
        """
        books, wanted = self.codebooks, f"num_clusters is {self.num_clusters}"
        books.reservoir = sample_frames(self._parts(batches), self.reservoir_frames)
        if "codebooks" in loaded:
            return
        frames = books.reservoir.shape[1]
        if frames < self.num_clusters:
            raise ValueError(
                f"{wanted}, but the first {self.reservoir_batches} batches (reservoir_batches) have {frames} frames"
            )
        for name, centres, reservoir in zip(self.names, books.centres, books.reservoir, strict=True):
            try:
                centres.copy_(plus_plus(reservoir, self.num_clusters))
            except ValueError as error:
                raise ValueError(f"{wanted}, but {error} in {name}: more data, or more varied, is needed") from error

    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        features, mask = self._features(batch)
        tokens = self.codebooks.assign(features)
        losses = networks["codebooks"](features, tokens, mask)
        metrics = self._named("inertia", 2 * len(mask) * losses.detach() / mask.sum().clamp(min=1))
        counts = self.codebooks.counts.detach() + histogram(tokens[mask], self.num_clusters) / len(mask)
        metrics |= self._named("usage", usage(counts)) | self._named("perplexity", perplexity(counts))
        yield Objective("codebooks", losses.sum(), {**metrics, "reseeded": self.codebooks.reseeded})

    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, int]]:
        features, mask = self._features(batch)
        squares = 2 * len(mask) * self.codebooks(features, self.codebooks.assign(features), mask)
        frames, counts = int(mask.sum()), self.codebooks.counts
        means = self._named("usage", usage(counts)) | self._named("perplexity", perplexity(counts))
        metrics = {name: (total, frames) for name, total in self._named("inertia", squares).items()}
        return metrics | {name: (value * frames, frames) for name, value in means.items()}

    def export(self, folder: Path) -> list[Path]:
        """The centres, in ``export_format``.

        Raises:
            ValueError: they do not fit into ``export_dtype``, or ``kmeans.safetensors`` is in the way of a released
                layout, since readers would take that.
        """
        centres = dict(zip(self.encoder.layers, self.codebooks.centres.detach().cpu(), strict=True))
        if self.export_format == "released":
            return write_released_kmeans(folder, centres, name=self.export_name)
        centres = {layer: x.to(DTYPES[self.export_dtype]) for layer, x in centres.items()}
        if not all(x.isfinite().all() for x in centres.values()):
            raise ValueError(f"centres are too large for export_dtype {self.export_dtype}: use float32")
        return write_kmeans(folder, centres)

    def _named(self, name: str, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean [] and the values [K] of the layers, by name."""
        return {name: values.mean(), **{f"{name}_{layer}": x for layer, x in zip(self.names, values, strict=True)}}

    @torch.no_grad()
    def _features(self, batch: Batch) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Of each layer [B, N, D] float32, and [B, N], the frames within a row's length."""
        wav, grid = batch["wav"], self.encoder.grid
        # An encoder refuses a row without a frame; it may see silence there, since the mask leaves it out.
        lengths = batch["length"].clamp(min=min(grid.window, wav.shape[-1]))
        with autocast(wav.device, self.precision):
            features = [x.float() for x in self.encoder(wav, lengths)]
        return features, length_mask(grid.frames(batch["length"]), features[0].shape[1])

    def _parts(self, batches: Iterator[Batch]) -> Iterator[list[torch.Tensor]]:
        """The frames [n, D] of each layer, of some rows at a time."""
        for batch in itertools.islice(batches, self.reservoir_batches):
            for rows in zip(*(x.split(ROWS) for x in batch.values()), strict=True):
                features, mask = self._features(dict(zip(batch, rows, strict=True)))
                yield [x[mask] for x in features]
