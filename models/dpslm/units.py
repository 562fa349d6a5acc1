"""The units of DP-SLM (arXiv 2505.23494): a layer of WavLM, quantised along the path that pays for every change."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from models.dpslm.codebook import read_codebook
from models.dpslm.padded_wavlm import PaddedWavLM
from models.interfaces import Recording
from models.ssl_tokenizer import fitting
from modules.cutting import Cutting, Piece
from modules.dpdp import Trellis, count_of_neighbors
from modules.frozen import Frozen
from utils.ahead import ahead
from utils.files import text_digest
from utils.halves import in_halves
from utils.precision import autocast

_PART = 2**20  # samples of a recording that are read at a time for its level
CONTEXT_SECONDS = 2.0  # that a window of a long file hears on either side


class DurationPenalisedUnits(Frozen):
    """Speech to units, T // 320 of T samples at 16 kHz, in float32.

    The signal gets zeros at both ends, so that every 320 samples have a frame. WavLM hears a file whole up to
    ``window_seconds``, longer ones in windows; the search always goes over the whole file.

    Args:
        wavlm_path: folder in the Hugging Face format, name on the hub, or original file; layers above are not loaded.
        codebook_path: see ``models.dpslm.codebook``.
        wavlm_layer: whose output is quantised, without a norm.
        num_clusters: K.
        lmbda, num_neighbors: see ``modules.dpdp``.
        normalize_wav: bring every signal to zero mean and unit variance first.
        window_seconds: of a window, its contexts included.

    Raises:
        FileNotFoundError, ValueError: a file is missing, broken, or does not fit; a setting cannot be.
    """

    num_codebooks = 1
    precision = "fp32"

    def __init__(
        self,
        *,
        wavlm_path: str | os.PathLike,
        codebook_path: str | os.PathLike,
        wavlm_layer: int = 11,
        num_clusters: int = 500,
        lmbda: float = 4500.0,
        num_neighbors: float | int | None = 0.05,
        normalize_wav: bool = False,
        window_seconds: float = 24.0,
    ):
        super().__init__()
        self.normalize = normalize_wav  # here, of a whole file and before the zeros: windows of it would differ
        self.search = {"lmbda": lmbda, "num_neighbors": num_neighbors}
        codebook = read_codebook(codebook_path, layer=wavlm_layer, num_clusters=num_clusters)
        Trellis(codebook, **self.search)  # refuses what cannot be
        self.encoder = PaddedWavLM(wavlm_path, layers=[wavlm_layer])
        if codebook.shape[1] != self.encoder.dim:
            raise ValueError(f"{codebook_path} has {codebook.shape[1]} dimensions, layer {wavlm_layer} of {wavlm_path} "
                             f"has {self.encoder.dim}")  # fmt: skip
        self.register_buffer("codebook", codebook)
        self.sample_rate = self.encoder.sample_rate
        self.hop_length = self.encoder.hop_length
        self.vocab_size = num_clusters
        self.codebook_names = (f"layer_{wavlm_layer}",)
        self.facts = {
            "wavlm_layer": wavlm_layer, "num_clusters": num_clusters, "lmbda": float(lmbda),
            "num_neighbors": count_of_neighbors(num_neighbors, num_clusters), "normalize_wav": normalize_wav,
        }  # fmt: skip
        self.around = self.encoder.around  # zeros at either end
        window, context = (round(x * self.sample_rate / self.hop_length) for x in (window_seconds, CONTEXT_SECONDS))
        if window <= 2 * context:
            raise ValueError(f"window_seconds must be above {2 * CONTEXT_SECONDS:g}, got {window_seconds}")
        self.cutting = Cutting(grid=self.encoder.grid, piece=window - 2 * context, context=context)
        self.freeze()

    def digest(self) -> str:
        """SHA-256 of all that units follow from."""
        return text_digest(f"{self.facts} {self.cutting.piece} {super().digest()}")

    # -- in memory: as files are encoded, so that both give the same ---------------------------------------------------

    @torch.no_grad()
    def features(self, wav: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What is quantised.

        Args:
            wav: [B, T] at 16 kHz, of any length.
            lengths: [B] samples of each row; None: all are whole.

        Returns:
            [B, T // 320, D] float32; 0 beyond a row's own frames.

        Raises:
            ValueError: other shapes, or a row that is shorter than a frame.
        """
        device = self.codebook.device
        found = torch.zeros(len(wav), wav.shape[-1] // self.hop_length, self.encoder.dim, device=device)
        done = [0] * len(wav)
        for file, features in self._heard(_rows(wav, lengths)):
            found[file, done[file] : done[file] + len(features)] = features
            done[file] += len(features)
        return found

    @torch.no_grad()
    def encode(self, wav: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Units of a batch, [B, T // 320, 1] int64, 0 beyond a row's own; arguments and errors as of ``features``."""
        rows = self.encode_files(_rows(wav, lengths))
        found = torch.zeros(len(wav), wav.shape[-1] // self.hop_length, 1, dtype=torch.int64)
        for row, units in enumerate(rows):
            found[row, : len(units)] = units
        return found.to(self.codebook.device)

    forward = encode

    # -- files ---------------------------------------------------------------------------------------------------------

    def encode_files(self, recordings: Sequence[Recording]) -> list[Tensor]:
        """Whole files of any length, in bounded memory -> of each the units [T // 320, 1], on the CPU.

        Raises:
            ValueError: a file is shorter than a frame.
        """
        paths = [Trellis(self.codebook, **self.search) for _ in recordings]
        for file, features in self._heard(recordings):
            paths[file].add(features)
        return [path.units()[:, None] for path in paths]

    def _heard(self, recordings: Sequence[Recording]) -> Iterator[tuple[int, Tensor]]:
        """The number of a recording, and the features [n, D] of its next frames; until all have been heard."""
        pieces = []
        for file, recording in enumerate(recordings):
            if recording.samples < self.hop_length:
                raise ValueError(
                    f"a unit needs {self.hop_length} samples at 16 kHz (20 ms), there are {recording.samples}"
                )
            whole = recording.samples // self.hop_length * self.hop_length
            pieces += self.cutting.cut(whole, file)
        for wav, together in ahead(self._read(recordings, pieces)):
            lengths = torch.tensor([piece.length + 2 * self.around for piece in together])

            def hear(part: slice, wav=wav, lengths=lengths) -> list[Tensor]:
                with torch.no_grad(), autocast(self.codebook.device, self.precision):
                    return list(self.encoder.wavlm(wav[part].to(self.codebook.device), lengths[part])[0].float())

            rows = (row for found in in_halves(hear, len(together)) for row in found)
            for row, piece in zip(rows, together, strict=True):
                yield piece.signal, row[piece.kept]

    def _read(self, recordings: Sequence[Recording], pieces: Sequence[Piece]) -> Iterator[tuple[Tensor, list[Piece]]]:
        """Pieces that are computed together, with what is around each: zeros at the ends of a file."""
        levels = [_level(recording) if self.normalize else (0.0, 1.0) for recording in recordings]
        for together in fitting(pieces, samples=self.cutting.window * self.hop_length):
            wav = torch.zeros(len(together), max(piece.length for piece in together) + 2 * self.around)
            for row, piece in zip(wav, together, strict=True):
                before = min(self.around, piece.start)
                length = piece.length + before + self.around
                mean, deviation = levels[piece.signal]
                heard = torch.as_tensor(recordings[piece.signal].read(piece.start - before, length))
                heard = heard if deviation == 1.0 and not mean else ((heard.double() - mean) / deviation).float()
                row[self.around - before : self.around - before + len(heard)] = heard
            yield wav, together


def _rows(wav: Tensor, lengths: Tensor | None) -> list[Recording]:
    """The rows of a batch [B, T], each of its own length."""
    if wav.ndim != 2 or not len(wav) or not wav.is_floating_point():
        raise ValueError(f"wav must be floats [B, T], got {wav.dtype} {list(wav.shape)}")
    own = [wav.shape[1]] * len(wav) if lengths is None else [int(length) for length in lengths]
    if len(own) != len(wav) or not all(0 <= length <= wav.shape[1] for length in own):
        raise ValueError(f"lengths must be {len(wav)} numbers of samples up to {wav.shape[1]}, got {own}")
    return [Recording.of(row[:length].detach().float()) for row, length in zip(wav, own, strict=True)]


def _level(recording: Recording) -> tuple[float, float]:
    """Mean and deviation of a whole recording, as ``F.layer_norm`` has them, read in parts."""
    total = square = 0.0
    for start in range(0, recording.samples, _PART):
        part = torch.as_tensor(recording.read(start, min(_PART, recording.samples - start))).double()
        total, square = total + float(part.sum()), square + float(part.square().sum())
    mean = total / recording.samples
    return mean, (max(square / recording.samples - mean**2, 0.0) + 1e-5) ** 0.5


def load_units(
    *, wavlm_path: str | os.PathLike | None, codebook_path: str | os.PathLike | None, **settings: object
) -> DurationPenalisedUnits | None:
    """What makes units of audio; None where neither path is set.

    Raises:
        ValueError: one is set and the other is not; or see ``DurationPenalisedUnits``.
    """
    if (wavlm_path is None) != (codebook_path is None):
        lacking = "wavlm_path" if wavlm_path is None else "codebook_path"
        raise ValueError(f"{lacking} must be set too: units of audio need both wavlm_path and codebook_path")
    if wavlm_path is None:
        return None
    return DurationPenalisedUnits(wavlm_path=wavlm_path, codebook_path=codebook_path, **settings)
