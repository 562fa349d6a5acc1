"""What the tests of k-means share: features with a structure, codebooks, and a task."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from models.kmeans.centre_descent import CentreDescent
from models.kmeans.codebooks import Codebooks
from models.kmeans.task import LayerKMeans
from modules.frames import FrameGrid
from modules.frozen import Frozen
from modules.kmeans import NearestCentroid

LAYERS = [1, 3, 7, 12, 18, 23]


def mixture() -> np.ndarray:
    """150 Gaussians of unequal weights and widths, in 24 dimensions."""
    rng = np.random.default_rng(0)
    weights, widths = rng.dirichlet(np.full(150, 0.5)), rng.uniform(0.3, 1.5, size=150)
    means = 3 * rng.standard_normal((150, 24))
    which = rng.choice(150, size=20000, p=weights)
    return (means[which] + widths[which, None] * rng.standard_normal((20000, 24))).astype("f4")


def correlated() -> np.ndarray:
    """As features of speech: slow, of fewer dimensions than channels, which differ in scale and are off zero."""
    rng = np.random.default_rng(1)
    slow = np.zeros((20000, 8))
    for n, noise in enumerate(rng.standard_normal((20000, 8))):
        slow[n] = 0.95 * slow[n - 1] + noise
    x = np.tanh(0.3 * slow @ rng.standard_normal((8, 32))) * np.exp(rng.standard_normal(32))
    return (x + 0.1 * rng.standard_normal((20000, 32)) + 2 * rng.standard_normal(32)).astype("f4")


def batches(x: np.ndarray, *, size: int, passes: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for _ in range(passes):
        order = rng.permutation(len(x))
        yield from (x[order[i : i + size]] for i in range(0, len(x) - size + 1, size))


def inertia(x: np.ndarray, centres: np.ndarray) -> float:
    nearest = NearestCentroid([torch.from_numpy(centres)])([torch.from_numpy(x)[None]])[0, :, 0].numpy()
    return float(np.square(x - centres[nearest]).sum(-1).mean())


def descend(books: Codebooks, optimizer: CentreDescent, x: torch.Tensor, rows: int = 8) -> None:
    """One step of frames [n, D], the same for all codebooks."""
    features = [x.view(rows, -1, x.shape[-1])] * len(books.centres)
    mask = torch.ones(features[0].shape[:2], dtype=torch.bool)
    optimizer.zero_grad()
    books(features, books.assign(features), mask).sum().backward()
    optimizer.step()


def books_at(*centres: torch.Tensor, reservoir: torch.Tensor | None = None, **more: object) -> Codebooks:
    """Codebooks with these centres [V, D]."""
    books = Codebooks(num_codebooks=len(centres), vocab_size=len(centres[0]), dim=centres[0].shape[1], **more)
    with torch.no_grad():
        books.centres.copy_(torch.stack(centres))
    if reservoir is not None:
        books.reservoir = reservoir.expand(len(centres), *reservoir.shape).clone()
    return books


class Windows(Frozen):
    """An encoder that cuts: frame n of layer l is l times its 16 samples, and 1000 beyond a row's length."""

    sample_rate = 16000

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.dim, self.grid = (1, 2), 16, FrameGrid(window=16, hop=16)
        self.freeze()

    def forward(self, wav: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
        assert int(lengths.min()) >= self.grid.window, "WavLM refuses such a row"
        frames = wav.unfold(-1, 16, 16).clone()
        frames[torch.arange(frames.shape[1]) >= self.grid.frames(lengths)[:, None]] = 1000
        return [frames, 2 * frames]


def task(**more: object) -> LayerKMeans:
    return LayerKMeans(encoder=Windows(), **{"num_clusters": 5, "reservoir_frames": 20, **more})


def batch_of(*lengths: int, seed: int = 0) -> dict[str, torch.Tensor]:
    wav = torch.randn(len(lengths), 160, generator=torch.Generator().manual_seed(seed))
    return {"wav": wav, "length": torch.tensor(lengths)}
