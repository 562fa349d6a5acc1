"""The tokenizer of TSELM: layers of a self-supervised encoder, each quantised by its own k-means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from models.interfaces import Recording
from modules.cutting import Cutting, Piece
from modules.frames import length_mask
from modules.frozen import Frozen
from modules.kmeans import NearestCentroid
from utils.ahead import ahead
from utils.halves import in_halves
from utils.precision import autocast, require_known


class SSLTokenizer(Frozen):
    """Speech to tokens: one k-means codebook for each chosen layer of the encoder.

    Args:
        encoder: ``models.wavlm.WavLM`` or anything frozen with its interface.
        centroids: one [V, D] a layer, in the encoder's order of layers.
        vocab_size: V, what the rest of the system was built for; compared with the centroids.
        precision: of the encoder (``fp32``, ``tf32``, ``bf16`` or ``fp16``), whatever the caller computes in. Anything
            but fp32 changes some tokens (tf32 on CUDA only).

    Raises:
        ValueError: encoder, centroids and ``vocab_size`` do not fit together.
    """

    def __init__(self, *, encoder: Frozen, centroids: Sequence[torch.Tensor], vocab_size: int, precision: str = "fp32"):
        super().__init__()
        self.encoder = encoder
        self.quantizer = NearestCentroid(centroids)
        if self.quantizer.num_codebooks != len(encoder.layers):
            raise ValueError(f"{len(encoder.layers)} layers need as many codebooks, got {self.quantizer.num_codebooks}")
        if self.quantizer.vocab_size != vocab_size:
            raise ValueError(
                f"num_clusters is {vocab_size}, but the k-means files have {self.quantizer.vocab_size} centres"
            )
        if self.quantizer.dim != encoder.dim:
            raise ValueError(f"the encoder has {encoder.dim} channels, the k-means centres {self.quantizer.dim}")
        require_known(precision)
        self.precision = precision
        self.sample_rate: int = encoder.sample_rate
        self.grid = encoder.grid
        self.hop_length: int = encoder.grid.hop
        self.num_codebooks = self.quantizer.num_codebooks
        self.vocab_size = vocab_size
        self.codebook_names = tuple(f"layer_{layer}" for layer in encoder.layers)
        self.dim: int = encoder.dim
        self.freeze()

    @torch.no_grad()
    def features(self, wav: torch.Tensor, lengths: torch.Tensor | None = None, **hints: object) -> list[torch.Tensor]:
        """The continuous features before quantisation: wav [B, T], lengths [B] -> K tensors [B, N, D] float32.

        ``hints`` are the encoder's own, which spare it what nobody needs: see ``models.wavlm.WavLM.forward``.
        """
        with autocast(wav.device, self.precision):
            return [x.float() for x in self.encoder(wav.float(), lengths, **hints)]

    @torch.no_grad()
    def encode(self, wav: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens of a batch; a padded row has the tokens that it has alone.

        Args:
            wav: [B, T] at ``sample_rate``.
            lengths: [B] samples of each row, None if all are whole; on the CPU, so that nobody waits for the device.

        Returns:
            [B, N, K] int64 in [0, V); 0 in the frames beyond a row's length.
        """
        tokens = self.quantizer(self.features(wav, lengths))
        if lengths is not None:
            lengths = lengths.to(tokens.device, non_blocking=True)
            tokens = tokens * length_mask(self.grid.frames(lengths), tokens.shape[1])[..., None]
        return tokens

    forward = encode

    def encode_files(self, recordings: Sequence[Recording]) -> list[torch.Tensor]:
        """Whole files of any length, in bounded memory -> of each the tokens [ceil(T / hop), K], on the CPU."""
        return encode_files(self, recordings)


def encode_files(
    tokenizer: SSLTokenizer,
    recordings: Sequence[Recording],
    *,
    piece_seconds: float = 20.0,
    context_seconds: float = 2.0,
) -> list[torch.Tensor]:
    """Tokens of whole files of any length, in bounded memory.

    A file that fits into a window is encoded whole, together with its neighbours that do; of a longer one, the windows
    overlap by their contexts.

    Args:
        recordings: the files.
        piece_seconds, context_seconds: what is kept of a window of a long file, and what is heard on either side.

    Returns:
        Of each file [ceil(T / hop), K] int64, on the CPU: frames that reach beyond its end hear zeros there.
    """
    rate, hop = tokenizer.sample_rate, tokenizer.hop_length
    piece, context = (round(seconds * rate / hop) for seconds in (piece_seconds, context_seconds))
    cutting = Cutting(grid=tokenizer.grid, piece=piece, context=context)
    pieces = [cut for file, recording in enumerate(recordings) for cut in cutting.cut(recording.samples, file)]
    made: list[list[torch.Tensor]] = [[] for _ in recordings]
    device = next(tokenizer.buffers()).device

    def read() -> Iterator[tuple[torch.Tensor, list[Piece]]]:
        for together in fitting(pieces, samples=tokenizer.grid.samples(cutting.window)):
            wav = torch.zeros(len(together), max(cut.length for cut in together))
            for row, cut in zip(wav, together, strict=True):
                heard = torch.as_tensor(recordings[cut.signal].read(cut.start, cut.length))
                row[: len(heard)] = heard
            yield wav, together

    for wav, together in ahead(read()):
        lengths = torch.tensor([cut.length for cut in together])

        def encode(part: slice, wav=wav, lengths=lengths) -> torch.Tensor:
            return tokenizer.encode(wav[part].to(device), lengths[part]).cpu()

        rows = (row for tokens in in_halves(encode, len(together)) for row in tokens)
        for row, cut in zip(rows, together, strict=True):
            made[cut.signal].append(row[cut.kept])
    return [torch.cat(parts) for parts in made]


def fitting(pieces: Sequence[Piece], *, samples: int) -> Iterator[list[Piece]]:
    """Neighbours whose padded batch holds no more than ``samples``, or one that is longer."""
    together: list[Piece] = []
    for piece in pieces:
        longest = max([piece.length, *(other.length for other in together)])
        if together and longest * (len(together) + 1) > samples:
            yield together
            together = []
        together.append(piece)
    if together:
        yield together
