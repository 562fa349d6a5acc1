"""Units of speech as DP-SLM's: features of a layer of WavLM, quantised by a search that pays for every change."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.dpslm.unit_codebook import read_codebook
from models.interfaces import Recording
from models.wavlm import WavLM
from modules.cutting import Cutting
from modules.dpdp import UnitSearch, check_lmbda, count_neighbors
from modules.frames import FrameGrid
from modules.frozen import Frozen, tensor_digest
from utils.ahead import ahead
from utils.files import text_digest
from utils.precision import autocast

SAMPLE_RATE = 16000
GRID = FrameGrid(window=400, hop=320)
PADDING = GRID.overlap // 2  # zeros on either side of a signal, so that T samples have T // 320 frames
CONTEXT_SECONDS = 2.0  # that a window hears of its neighbour on either side

# ``read(start, length)`` gives these samples, [B, at most length]
Read = Callable[[int, int], Tensor]


class UnitTokenizer(Frozen):
    """Speech to units, one every 20 ms; repeats are kept. A ``models.interfaces.Tokenizer``, in float32.

    Files are read in windows as they are needed, and the search goes over all frames of a file at once. Each signal is
    computed alone, or with others of its very length, so that it does not matter what else is in a batch or list.

    Args:
        wavlm_path: Hugging Face folder, name on the hub, or original file, see ``models.wavlm.WavLM``.
        codebook_path: see ``models.dpslm.unit_codebook.read_codebook``. Without both paths there is a tokenizer that
            cannot encode, for programs that may be given units instead of speech.
        wavlm_layer: whose output is quantised, without a norm after it; those above are not loaded.
        num_clusters: K.
        lmbda, num_neighbors: see ``modules.dpdp.dpdp``.
        normalize_wav: bring a signal to zero mean and unit variance first. Published units are made without.
        window_seconds: what is heard whole, and the length of a window of what is longer, in which 2 s on either side
            belong to its neighbours.

    Raises:
        FileNotFoundError, ValueError: a file is missing or broken, a setting out of range, or parts do not fit.
    """

    num_codebooks = 1
    sample_rate = SAMPLE_RATE
    hop_length = GRID.hop
    precision = "fp32"

    def __init__(
        self,
        *,
        wavlm_path: str | os.PathLike | None,
        codebook_path: str | os.PathLike | None,
        wavlm_layer: int = 11,
        num_clusters: int = 500,
        lmbda: float = 4500.0,
        num_neighbors: float | None = 0.05,
        normalize_wav: bool = False,
        window_seconds: float = 24.0,
    ):
        super().__init__()
        if (wavlm_path is None) != (codebook_path is None):
            raise ValueError(f"wavlm_path and codebook_path go together, got {wavlm_path} and {codebook_path}")
        self.vocab_size = num_clusters
        self.layer = wavlm_layer
        self.lmbda = check_lmbda(lmbda)
        self.neighbors = count_neighbors(num_neighbors, num_clusters)
        self.normalize = normalize_wav
        self.codebook_names = (f"layer_{wavlm_layer}",)
        context, window = (round(x * SAMPLE_RATE / GRID.hop) for x in (CONTEXT_SECONDS, window_seconds))
        if window <= 2 * context:
            raise ValueError(f"window_seconds must be above {2 * CONTEXT_SECONDS:g}, got {window_seconds}")
        self.cutting = Cutting(grid=GRID, piece=window - 2 * context, context=context)
        self.encoder = None
        self.register_buffer("codebook", None)
        if wavlm_path is not None:
            self.codebook = read_codebook(codebook_path, layer=wavlm_layer, num_clusters=num_clusters)
            self.encoder = WavLM(wavlm_path, layers=[wavlm_layer], normalize=False, final_norm=False)
            if self.encoder.grid != GRID:
                raise ValueError(f"{wavlm_path} has frames of {self.encoder.grid}, units are of {GRID}")
            if self.encoder.dim != self.codebook.shape[1]:
                raise ValueError(
                    f"{wavlm_path} has {self.encoder.dim} channels, the codebook {codebook_path} has "
                    f"{self.codebook.shape[1]}"
                )
        self.freeze()

    def facts(self) -> dict[str, Any]:
        """What units are compared by beside their digest; of ``num_neighbors`` how many they are."""
        return {
            "num_clusters": self.vocab_size,
            "lmbda": self.lmbda,
            "num_neighbors": self.neighbors,
            "wavlm_layer": self.layer,
            "normalize_wav": self.normalize,
        }

    def digest(self) -> str:
        """SHA-256 of all that units follow from: weights, layer, search, normalisation and windows."""
        self._require_weights()
        cut = f"{self.cutting.piece} {self.cutting.context}"
        return text_digest(f"{self.facts()} {cut} {tensor_digest(self.state_dict())}")

    # -- what Python calls -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def features(self, wav: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What is quantised.

        Args:
            wav: [B, T] at 16 kHz.
            lengths: [B] samples of each row; None: all are whole.

        Returns:
            [B, T // 320, D] float32, 0 in the frames beyond a row's own.

        Raises:
            ValueError: other shapes, lengths outside 320 to T, or no paths were given.
        """
        self._require_weights()
        groups = _rows_by_length(wav, lengths)
        found = torch.zeros(len(wav), count(wav.shape[1]), self.encoder.dim, device=self.codebook.device)
        for length, rows in groups.items():
            windows = self._windows(lambda s, n, rows=rows: wav[rows, s : s + n], length)
            found[rows, : count(length)] = torch.cat([self._heard(*window) for window in windows], dim=1)
        return found

    @torch.no_grad()
    def encode(self, wav: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Units of a batch; a padded row has the units that it has alone.

        Args:
            wav, lengths: as for ``features``, which also tells what is raised.

        Returns:
            [B, T // 320, 1] int64 in [0, K), 0 in the frames beyond a row's own.
        """
        self._require_weights()
        groups = _rows_by_length(wav, lengths)
        found = torch.zeros(len(wav), count(wav.shape[1]), dtype=torch.int64, device=self.codebook.device)
        search = self._search()
        for length, rows in groups.items():
            for window in self._windows(lambda s, n, rows=rows: wav[rows, s : s + n], length):
                search.add(self._heard(*window))
            found[rows, : count(length)] = search.finish().to(found.device)
        return found[..., None]

    forward = encode

    @torch.no_grad()
    def encode_files(self, recordings: Sequence[Recording]) -> list[Tensor]:
        """Units of whole files of any length: of each [T // 320, 1] int64 on the CPU.

        Raises:
            ValueError: one has less than 320 samples.
        """
        self._require_weights()

        def windows() -> Iterator[tuple[int, Tensor, slice]]:
            for file, one in enumerate(recordings):
                for wav, kept in self._windows(
                    lambda s, n, one=one: torch.as_tensor(one.read(s, n))[None], one.samples
                ):
                    yield file, wav, kept

        found, search = [], self._search()
        for _, of_file in itertools.groupby(ahead(windows()), key=lambda window: window[0]):
            for _, wav, kept in of_file:
                search.add(self._heard(wav, kept))
            found.append(search.finish()[0, :, None])
        return found

    # -- how it is done ----------------------------------------------------------------------------------------------

    def _require_weights(self) -> None:
        if self.encoder is None:
            raise ValueError("there is nothing to make units of speech with: set wavlm_path and codebook_path")

    def _search(self) -> UnitSearch:
        return UnitSearch(self.codebook, lmbda=self.lmbda, num_neighbors=self.neighbors)

    def _windows(self, read: Read, samples: int) -> Iterator[tuple[Tensor, slice]]:
        """Of signals of one length the windows, [B, L] with what is around them, and which frames of each are kept."""
        if samples < GRID.hop:
            raise ValueError(f"a unit needs {GRID.hop} samples at 16 kHz (20 ms), got {samples}")
        level = _mean_and_deviation(read, samples) if self.normalize else None
        for piece in self.cutting.cut(GRID.hop * count(samples)):
            start, stop = piece.start - PADDING, piece.start - PADDING + piece.length
            first, last = max(start, 0), min(stop, samples)
            wav = read(first, last - first).float()
            if level is not None:
                wav = ((wav - level[0]) / level[1]).float()
            yield F.pad(wav, (first - start, stop - last)), piece.kept

    def _heard(self, wav: Tensor, kept: slice) -> Tensor:
        """The features of the frames that are kept of a window, [B, n, D]."""
        device = self.codebook.device
        with autocast(device, self.precision):
            return self.encoder(wav.to(device), kept=kept)[0]


def count(samples: int) -> int:
    """Units of so many samples."""
    return samples // GRID.hop


def _rows_by_length(wav: Tensor, lengths: Tensor | None) -> dict[int, list[int]]:
    """Samples -> the rows that have so many."""
    if wav.ndim != 2 or not wav.is_floating_point():
        raise ValueError(f"wav must be floats [B, T], got {wav.dtype} {list(wav.shape)}")
    own = [wav.shape[1]] * len(wav) if lengths is None else [int(length) for length in lengths.tolist()]
    if len(own) != len(wav) or not all(GRID.hop <= length <= wav.shape[1] for length in own):
        raise ValueError(
            f"lengths must be {len(wav)} numbers of samples from {GRID.hop}, a unit's, to {wav.shape[1]}, got {own}"
        )
    found: dict[int, list[int]] = {}
    for row, length in enumerate(own):
        found.setdefault(length, []).append(row)
    return found


def _mean_and_deviation(read: Read, samples: int) -> tuple[Tensor, Tensor]:
    """[B, 1] each, of whole signals: as ``F.layer_norm`` has them."""
    starts = range(0, samples, SAMPLE_RATE * 60)
    mean = sum(read(s, min(starts.step, samples - s)).double().sum(1, keepdim=True) for s in starts) / samples
    squares = (read(s, min(starts.step, samples - s)).double() - mean for s in starts)
    variance = sum(x.square().sum(1, keepdim=True) for x in squares) / samples
    return mean, (variance + 1e-5).sqrt()
