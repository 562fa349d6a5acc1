"""SpeechTokenizer for use: speech to tokens of any number of its codebooks, and tokens of any range of them to speech.

Every row of a batch is computed as it would be alone: convolutions go over rows of one length together, and the LSTMs,
whose weights are the dear part to read, over all rows. Signals of any length are computed in bounded memory:
convolutions go piece by piece, each with as much around it as its frames can hear; what is kept of the whole signal are
the frames between, at 1 / hop of its rate.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import torch
from torch import nn

from models.interfaces import Recording
from models.speechtokenizer.architecture import Architecture
from models.speechtokenizer.files import load_weights, read_weights
from models.speechtokenizer.network import CodecNetwork
from modules.frames import length_mask
from modules.frozen import Frozen, tensor_digest
from modules.frozen_seanet import FrozenLayers, lstm_rows, reach
from modules.seanet import ResidualLSTM
from utils.files import text_digest
from utils.precision import autocast, require_known

# ``read(start, length)`` gives these samples of rows of one length: [R, at most length]
Read = Callable[[int, int], torch.Tensor]


class SpeechTokenizer(Frozen):
    """The codec (arXiv 2308.16692), Tokenizer and Vocoder in one; ``load_checkpoint`` gives it its weights.

    Args:
        architecture: its sizes.
        codebooks: how many of them ``encode`` computes, from the first on; None: all.
        piece_seconds: longer signals go through the convolutions in pieces of this length. It changes nothing but the
            memory, and the last bits of a result.
        precision: of encoder and decoder (``fp32``, ``tf32``, ``bf16`` or ``fp16``); the quantiser's is always float32.
            Anything but fp32 changes some tokens (tf32 on CUDA only).

    Raises:
        ValueError: ``codebooks``, ``piece_seconds`` or ``precision`` is out of range.
    """

    def __init__(
        self,
        *,
        architecture: Architecture,
        codebooks: int | None = None,
        piece_seconds: float = 10.0,
        precision: str = "fp32",
    ):
        super().__init__()
        require_known(precision)
        if codebooks is not None and not (type(codebooks) is int and 1 <= codebooks <= architecture.n_q):
            raise ValueError(f"codebooks must be 1 to {architecture.n_q}, which the codec has, got {codebooks!r}")
        if piece_seconds <= 0:
            raise ValueError(f"piece_seconds must be above 0, got {piece_seconds}")
        self.network = CodecNetwork(architecture=architecture)
        self.precision = precision
        self.sample_rate = architecture.sample_rate
        self.hop_length = architecture.hop_length
        self.num_codebooks = codebooks or architecture.n_q
        self.vocab_size = architecture.codebook_size
        self.codebook_names = tuple(f"rvq_{k + 1}" for k in range(self.num_codebooks))
        self.piece_frames = max(1, round(piece_seconds * self.sample_rate / self.hop_length))
        self._encoder = _Stack(self.network.encoder.layers)
        self._decoder = _Stack(self.network.decoder.layers)
        self._reach_encoding = reach(self._encoder.before, rate=self.hop_length)
        self._reach_decoding = reach(self._decoder.after, rate=self.hop_length)
        self.freeze()

    def load_checkpoint(self, path: str | os.PathLike) -> None:
        """Load a released file, a package of the public trainer, or a checkpoint of this project, strictly.

        Raises:
            FileNotFoundError, ValueError: see ``models.speechtokenizer.files``.
        """
        load_weights(self.network, read_weights(path), path)
        self._encoder.forget()
        self._decoder.forget()

    @property
    def codebooks(self) -> torch.Tensor:
        """All rows of all codebooks, [n_q, V, D]."""
        return self.network.quantizer.embed

    def digests(self) -> dict[str, str]:
        """SHA-256 of what the tokens of speech follow from, of the codebooks that give them a meaning, and of the
        decoder: of the tensors, and of the sizes that do not show in them."""
        sizes = text_digest(json.dumps(asdict(self.network.architecture), sort_keys=True))
        encoder = tensor_digest({**self.network.encoder.state_dict(), "codebooks": self.codebooks})
        return {
            "tokenizer": text_digest(sizes + encoder),
            "codebook_rows": tensor_digest({"codebooks": self.codebooks}),
            "decoder": text_digest(sizes + tensor_digest(self.network.decoder.state_dict())),
        }

    # -- speech to tokens ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, wav: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens of a batch; a padded row has the tokens that it has alone, whatever the padding holds.

        Args:
            wav: [B, T] at ``sample_rate``, T above 0.
            lengths: [B] samples of each row, above 0; None: all are whole.

        Returns:
            [B, ceil(T / hop), num_codebooks] int64 in [0, V); 0 in the frames beyond a row's own.

        Raises:
            ValueError: other shapes, or lengths outside 1 to T.
        """
        latents = self.encode_latents(wav, lengths)
        tokens = self.network.quantizer.encode(latents, self.num_codebooks)
        if lengths is not None:
            tokens = tokens * length_mask(self._frames(lengths.to(tokens.device)), tokens.shape[1])[..., None]
        return tokens

    forward = encode

    @torch.no_grad()
    def encode_latents(self, wav: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """What is quantised: [B, N, D] float32, 0 in the frames beyond a row's own. Arguments as for ``encode``."""
        if wav.ndim != 2 or 0 in wav.shape or not wav.is_floating_point():
            raise ValueError(f"wav must be floats [B, T], of one sample or more, got {wav.dtype} {list(wav.shape)}")
        samples = [wav.shape[1]] * len(wav)
        if lengths is not None:
            samples = lengths.tolist()
            if len(samples) != len(wav) or not all(0 < length <= wav.shape[1] for length in samples):
                raise ValueError(
                    f"lengths must be {len(wav)} numbers of samples from 1 to {wav.shape[1]}, got {samples}"
                )
        rows = [lambda start, length, row=row: wav[row : row + 1, start : start + length] for row in range(len(wav))]
        found = self.latents_of(rows, samples)
        latents = torch.zeros(len(wav), self._frames(wav.shape[1]), found[0].shape[1], device=wav.device)
        for row, x in zip(latents, found, strict=True):
            row[: len(x)] = x
        return latents

    @torch.no_grad()
    def encode_files(self, recordings: Sequence[Recording]) -> list[torch.Tensor]:
        """Tokens of whole files of any length, computed together: of each [ceil(T / hop), K] int64 on the CPU."""
        sources = [lambda start, length, one=one: torch.as_tensor(one.read(start, length))[None] for one in recordings]
        latents = self.latents_of(sources, [recording.samples for recording in recordings])
        return [self.network.quantizer.encode(x, self.num_codebooks).cpu() for x in latents]

    @torch.no_grad()
    def latents_of(self, sources: Sequence[Read], samples: Sequence[int]) -> list[torch.Tensor]:
        """Latents of signals that are read as they are needed.

        Args:
            sources: of each signal ``read(start, length)``, which gives these of its samples, [1, n].
            samples: of each signal, above 0.

        Returns:
            Of each [N, D] float32, on the device of the codec.
        """
        with autocast(self.codebooks.device, self.precision):
            frames: list[torch.Tensor] = [torch.empty(0)] * len(sources)
            for length, rows in _alike(samples).items():
                together = self._frames_before(
                    lambda s, n, rows=rows: torch.cat([sources[r](s, n) for r in rows]), length
                )
                for row, x in zip(rows, together, strict=True):
                    frames[row] = x
            return [x.float() for x in self._encoder.over_frames(frames)]

    def _frames_before(self, read: Read, samples: int) -> torch.Tensor:
        """The encoder up to its LSTM, of rows of one length: [R, N, C]."""
        parts = []
        for piece in _pieces(self._frames(samples), self.piece_frames, self._reach_encoding):
            start = piece.first * self.hop_length
            wav = read(start, min((piece.stop - piece.first) * self.hop_length, samples - start))
            frames = self._encoder.through(wav.to(self.codebooks.device, torch.float32)[..., None])
            parts.append(frames[:, piece.kept])
        return torch.cat(parts, dim=1)

    # -- tokens to speech ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(
        self,
        tokens: torch.Tensor,
        first_codebook: int = 0,
        length: int | None = None,
        lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Tokens of one or more neighbouring codebooks to speech.

        Args:
            tokens: [B, N, k] integers in [0, V); column j is looked up in codebook ``first_codebook + j``.
            length: samples to give, at most hop * N; None: hop * N.
            lengths: [B] frames of each row, which then sounds as it does alone, and is 0 after its end.

        Returns:
            [B, hop * N] or [B, length] float32; nothing keeps it within [-1, 1].

        Raises:
            ValueError: other shapes or types, tokens outside [0, V), or more columns than there are codebooks.
        """
        self.check(tokens, first_codebook)
        most = tokens.shape[1] * self.hop_length
        if length is not None and not 0 <= length <= most:
            raise ValueError(f"length must be 0 to {most}, the samples of {tokens.shape[1]} frames, got {length}")
        frames = [tokens.shape[1]] * len(tokens)
        if lengths is not None:
            frames = lengths.tolist()
            if len(frames) != len(tokens) or not all(0 < n <= tokens.shape[1] for n in frames):
                raise ValueError(
                    f"lengths must be {len(tokens)} numbers of frames from 1 to {tokens.shape[1]}, got {frames}"
                )
        wav = torch.zeros(len(tokens), most, device=tokens.device)
        signals = self.signals_of([row[:n] for row, n in zip(tokens, frames, strict=True)], first_codebook)
        for row, parts in zip(wav, signals, strict=True):
            start = 0
            for part in parts:
                row[start : start + len(part)] = part
                start += len(part)
        return wav[:, :length]

    def parts(self, tokens: torch.Tensor, first_codebook: int = 0) -> Iterator[torch.Tensor]:
        """The same as ``decode``, in parts [B, n] that follow each other in time, each made when it is asked for."""
        self.check(tokens, first_codebook)
        for parts in zip(*self.signals_of(list(tokens), first_codebook), strict=True):
            yield torch.stack(parts)

    @torch.no_grad()
    def signals_of(self, tokens: Sequence[torch.Tensor], first_codebook: int = 0) -> list[Iterator[torch.Tensor]]:
        """Speech of several token sequences [N, k], each in parts that follow each other in time.

        All that goes over whole sequences is computed here, and together; the parts when they are asked for.
        """
        with autocast(self.codebooks.device, self.precision):
            latents = [self.network.quantizer.dequantise(x.to(self.codebooks.device), first_codebook) for x in tokens]
            frames = self._decoder.over_frames(latents, with_before=True)
        return [self._sound(x) for x in frames]

    def _sound(self, frames: torch.Tensor) -> Iterator[torch.Tensor]:
        """The decoder after its LSTM, of one row [N, C]: parts [n]."""
        for piece in _pieces(len(frames), self.piece_frames, self._reach_decoding):
            with torch.no_grad(), autocast(frames.device, self.precision):
                wav = self._decoder.out_of(frames[None, piece.first : piece.stop])
            samples = slice(piece.kept.start * self.hop_length, piece.kept.stop * self.hop_length)
            yield wav[0, samples, 0].float()

    @torch.no_grad()
    def dequantise(self, tokens: torch.Tensor, first_codebook: int = 0) -> torch.Tensor:
        """The sum of the codebooks' rows, [B, N, D], which ``decode`` decodes. Arguments as for ``decode``."""
        self.check(tokens, first_codebook)
        return self.network.quantizer.dequantise(tokens, first_codebook)

    @torch.no_grad()
    def semantic_features(self, tokens: torch.Tensor) -> torch.Tensor:
        """What the first codebook learned from its teacher: tokens [B, N, k] -> [B, N, S] of their first column."""
        self.check(tokens, 0)
        return self.network.transform(self.network.quantizer.dequantise(tokens[..., :1]))

    def check(self, tokens: torch.Tensor, first_codebook: int = 0) -> None:
        """Raise a ValueError if these are not tokens [B, N, k] of this codec's codebooks."""
        total = self.network.quantizer.num_codebooks
        if not (type(first_codebook) is int and 0 <= first_codebook < total):
            raise ValueError(f"first_codebook must be 0 to {total - 1}, got {first_codebook!r}")
        if tokens.ndim != 3 or 0 in tokens.shape or tokens.is_floating_point() or tokens.dtype == torch.bool:
            raise ValueError(
                f"tokens must be integers [B, N, k], none of them 0, got {tokens.dtype} {list(tokens.shape)}"
            )
        if tokens.shape[2] > total - first_codebook:
            raise ValueError(
                f"there are {total - first_codebook} codebooks from codebook {first_codebook} on, "
                f"the tokens have {tokens.shape[2]} columns"
            )
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.vocab_size:
            raise ValueError(f"tokens must be 0 to {self.vocab_size - 1}, they are {low} to {high}")

    def _frames(self, samples: int | torch.Tensor) -> int | torch.Tensor:
        return -(-samples // self.hop_length)


class _Stack:
    """An encoder or decoder around its LSTM: what comes before it, it, and what comes after it; channels last."""

    def __init__(self, layers: Sequence[nn.Module]):
        (place,) = (i for i, layer in enumerate(layers) if isinstance(layer, ResidualLSTM))
        self.before, self.lstm, self.after = layers[:place], layers[place], layers[place + 1 :]
        self.forget()

    def forget(self) -> None:
        """The weights have changed."""
        self.through, self.out_of = FrozenLayers(self.before), FrozenLayers(self.after)

    def over_frames(self, rows: Sequence[torch.Tensor], *, with_before: bool = False) -> list[torch.Tensor]:
        """What goes over all frames at their own rate, of rows [N, C].

        That is the LSTM, and the layer that lies beside it at this rate: the decoder's first (``with_before``), or the
        encoder's last.
        """
        lengths = [len(x) for x in rows]
        if with_before:
            rows = _by_length(rows, self.through)
        padded = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        y = lstm_rows(self.lstm, padded, lengths)
        rows = [x[:length] for x, length in zip(y, lengths, strict=True)]
        return rows if with_before else _by_length(rows, self.out_of)


class _Piece:
    """Frames ``first`` to ``stop`` of a signal are computed, and those of them in ``kept`` are."""

    def __init__(self, first: int, stop: int, kept: slice):
        self.first, self.stop, self.kept = first, stop, kept


def _pieces(frames: int, size: int, around: int) -> Iterator[_Piece]:
    for start in range(0, frames, size):
        stop = min(start + size, frames)
        first = max(start - around, 0)
        yield _Piece(first, min(stop + around, frames), slice(start - first, stop - first))


def _by_length(rows: Sequence[torch.Tensor], layers: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    """``layers`` of each row [N, C], those of one length together."""
    results: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    for places in _alike([len(x) for x in rows]).values():
        for place, y in zip(places, layers(torch.stack([rows[p] for p in places])), strict=True):
            results[place] = y
    return results


def _alike(lengths: Sequence[int]) -> dict[int, list[int]]:
    """Which rows have each length."""
    found: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        found.setdefault(length, []).append(row)
    return found
