"""WavTokenizer (arXiv 2408.16532) for use: 24 kHz speech to one stream of codes, and codes to speech."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.dpslm.codec_files import CODEBOOK, ENCODER, read_wavtokenizer
from models.interfaces import Recording
from modules.cutting import Cutting
from modules.frames import FrameGrid
from modules.frozen import Frozen, tensor_digest
from modules.frozen_seanet import FrozenLayers, lstm_rows
from modules.kmeans import nearest
from modules.seanet import ResidualLSTM, SEANetEncoder
from modules.vocos import FourierHead, VocosBackbone
from utils.checkpoint import load_tensors
from utils.files import text_digest
from utils.precision import autocast

# ``read(start, length)`` gives these samples, [B, at most length]
Read = Callable[[int, int], Tensor]


class WavTokenizer(Frozen):
    """Tokenizer and Vocoder in one, in float32; of a signal [B, T] all rows are equally long, or ``lengths`` says it.

    LSTM, norms and attention go over all frames, so longer signals are cut into windows: of codes the middle of each
    is kept, of speech neighbouring windows are cross-faded where they meet.

    Args:
        path: the released Lightning checkpoint; all sizes follow from its tensors.
        window_seconds: what is computed whole, and the length of a window of what is longer.
        context_seconds: of a window on either side, that its neighbour keeps.
        sample_rate: Hz; no tensor tells it.

    Raises:
        FileNotFoundError, ValueError: see ``read_wavtokenizer``; tensors that are missing, unexpected, misshaped or not
            finite; or a window that is no longer than its two contexts.
    """

    codebook_names = ("wavtokenizer",)
    num_codebooks = 1
    precision = "fp32"

    def __init__(
        self,
        *,
        path: str | os.PathLike,
        window_seconds: float = 30.0,
        context_seconds: float = 1.0,
        sample_rate: int = 24000,
    ):
        super().__init__()
        sizes, tensors = read_wavtokenizer(path)
        self.sample_rate = sample_rate
        self.hop_length = sizes.hop_length
        self.vocab_size = sizes.num_codes
        window, context = (round(x * sample_rate / self.hop_length) for x in (window_seconds, context_seconds))
        if context < 0 or window <= 2 * context:
            raise ValueError(
                f"a window must be longer than its contexts on either side, and these not below 0; got window_seconds "
                f"{window_seconds} and context_seconds {context_seconds}"
            )
        self.cutting = Cutting(
            grid=FrameGrid(window=self.hop_length, hop=self.hop_length), piece=window - 2 * context, context=context
        )
        self.encoder = SEANetEncoder(
            filters=sizes.filters, strides=sizes.strides, dim=sizes.codec_dim, residual_layers=1, residual_kernel=3,
            dilation_base=1, lstm_layers=sizes.lstm_layers, bidirectional=False, activation="ELU",
        )  # fmt: skip
        self.register_buffer("codebook", torch.zeros(sizes.num_codes, sizes.codec_dim))
        self.backbone = VocosBackbone(
            inputs=sizes.codec_dim, channels=sizes.channels, hidden=sizes.hidden, layers=sizes.layers,
            norm_rows=sizes.norm_rows,
        )  # fmt: skip
        self.head = FourierHead(channels=sizes.channels, fft_length=sizes.fft_length, hop=sizes.hop_length)
        self._load(tensors, path)
        (lstm,) = (place for place, layer in enumerate(self.encoder.layers) if isinstance(layer, ResidualLSTM))
        self._before = FrozenLayers(self.encoder.layers[:lstm])
        self._lstm = self.encoder.layers[lstm]
        self._after = FrozenLayers(self.encoder.layers[lstm + 1 :])
        self.freeze()

    def _load(self, tensors: Mapping[str, Tensor], path: str | os.PathLike) -> None:
        parts = {"feature_extractor": _FeatureExtractor(self), "backbone": self.backbone, "head": self.head}
        load_tensors(parts, tensors, path)

    @property
    def codebooks(self) -> Tensor:
        """[1, C, D]."""
        return self.codebook[None]

    def digests(self) -> dict[str, str]:
        """SHA-256 of what codes follow from, of the rows that give them a meaning, and of what makes sound of them."""
        window = f"{self.cutting.piece} {self.cutting.context} {self.sample_rate}"
        encoder = tensor_digest({**self.encoder.state_dict(), "codebook": self.codebook})
        decoder = tensor_digest({**self.backbone.state_dict(), **self.head.state_dict()})
        return {
            "tokenizer": text_digest(f"{window} {encoder}"),
            "codebook_rows": tensor_digest({"codebook": self.codebook}),
            "decoder": text_digest(f"{window} {self.hop_length} {decoder}"),
        }

    # -- speech to codes -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, wav: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Codes of a batch; a padded row has the codes that it has alone.

        Args:
            wav: [B, T] at ``sample_rate``, T above 0.
            lengths: [B] samples of each row, above 0; None: all are whole.

        Returns:
            [B, ceil(T / hop), 1] int64 in [0, C); 0 in the frames beyond a row's own.

        Raises:
            ValueError: other shapes, or lengths outside 1 to T.
        """
        latents = self.encode_latents(wav, lengths)
        codes = nearest(latents, self.codebook)[..., None]
        if lengths is not None:
            own = -(-lengths.to(codes.device) // self.hop_length)
            codes = codes * (torch.arange(codes.shape[1], device=codes.device) < own[:, None])[..., None]
        return codes

    forward = encode

    @torch.no_grad()
    def encode_latents(self, wav: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What is quantised: [B, L, D] float32, 0 in the frames beyond a row's own. Arguments as for ``encode``."""
        if wav.ndim != 2 or 0 in wav.shape or not wav.is_floating_point():
            raise ValueError(f"wav must be floats [B, T], of one sample or more, got {wav.dtype} {list(wav.shape)}")
        samples = [wav.shape[1]] * len(wav) if lengths is None else lengths.tolist()
        if len(samples) != len(wav) or not all(0 < length <= wav.shape[1] for length in samples):
            raise ValueError(f"lengths must be {len(wav)} numbers of samples from 1 to {wav.shape[1]}, got {samples}")
        latents = torch.zeros(
            len(wav), -(-wav.shape[1] // self.hop_length), self.codebook.shape[1], device=self.codebook.device
        )
        for length in set(samples):
            rows = torch.tensor([row for row, own in enumerate(samples) if own == length], device=wav.device)
            found = self._latents(lambda s, n, rows=rows: wav[rows, s : s + n], length)
            latents[rows.to(latents.device), : found.shape[1]] = found
        return latents

    @torch.no_grad()
    def encode_files(self, recordings: Sequence[Recording]) -> list[Tensor]:
        """Codes of whole files of any length: of each [ceil(T / hop), 1] int64 on the CPU.

        Each is computed alone, so that it does not matter what else is in a list.
        """
        found = []
        for one in recordings:
            latents = self._latents(lambda s, n, one=one: torch.as_tensor(one.read(s, n))[None], one.samples)
            found.append(nearest(latents[0], self.codebook)[:, None].cpu())
        return found

    def _latents(self, read: Read, samples: int) -> Tensor:
        """[B, ceil(samples / hop), D] of rows of one length."""
        parts = []
        for piece in self.cutting.cut(samples):
            wav = read(piece.start, min(piece.length, samples - piece.start))
            parts.append(self._encoded(wav.to(self.codebook.device, torch.float32))[:, piece.kept])
        return torch.cat(parts, dim=1)

    def _encoded(self, wav: Tensor) -> Tensor:
        """[B, T] -> [B, ceil(T / hop), D]."""
        with autocast(wav.device, self.precision):
            return self._after(lstm_rows(self._lstm, self._before(wav[..., None])))

    # -- codes to speech -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """Codes [B, L, 1] -> speech [B, hop * L] float32.

        Raises:
            ValueError: other shapes, no integers, or a code outside [0, C).
        """
        return torch.cat(list(self.parts(tokens)), dim=1)

    def parts(self, tokens: Tensor) -> Iterator[Tensor]:
        """The same in parts that follow each other in time, each made when it is asked for; raises as ``decode``."""
        self._check(tokens)
        return self._parts(tokens)

    @torch.no_grad()
    def _parts(self, tokens: Tensor) -> Iterator[Tensor]:
        hop = self.hop_length
        pieces = self.cutting.cut(tokens.shape[1] * hop)
        ending: Tensor | None = None  # of the piece before: what is faded out
        for number, piece in enumerate(pieces):
            first = piece.start // hop
            wav = self._decoded(tokens[:, first : first + piece.length // hop])
            start, stop = piece.kept.start * hop, piece.kept.stop * hop
            around = self.cutting.context * hop // 2  # a fade reaches so far on either side of where two pieces meet
            if ending is not None and around:
                rising = (torch.arange(2 * around, device=wav.device) + 0.5) / (2 * around)
                faded = wav[:, start - around : start + around] * rising + ending * (1 - rising)
                wav = torch.cat([faded, wav[:, start + around :]], dim=1)
                start, stop = 0, stop - start + around
            is_last = number == len(pieces) - 1
            yield wav[:, start : stop if is_last else stop - around]
            ending = None if is_last else wav[:, stop - around : stop + around]

    def _decoded(self, tokens: Tensor) -> Tensor:
        with autocast(self.codebook.device, self.precision):
            rows = nn.functional.embedding(tokens[..., 0].to(self.codebook.device), self.codebook)
            return self.head(self.backbone(rows.transpose(1, 2)))

    def _check(self, tokens: Tensor) -> None:
        if tokens.ndim != 3 or 0 in tokens.shape or tokens.is_floating_point() or tokens.dtype == torch.bool:
            raise ValueError(
                f"tokens must be integers [B, L, 1], none of them 0, got {tokens.dtype} {list(tokens.shape)}"
            )
        if tokens.shape[2] != 1:
            raise ValueError(f"WavTokenizer has one codebook, the tokens have {tokens.shape[2]} columns")
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.vocab_size:
            raise ValueError(f"tokens must be 0 to {self.vocab_size - 1}, they are {low} to {high}")


class _FeatureExtractor:
    """The encoder and the codebook under their released names."""

    def __init__(self, codec: WavTokenizer):
        self._codec = codec

    def state_dict(self) -> dict[str, Tensor]:
        prefix = "feature_extractor."
        return {released.removeprefix(prefix): value for released, value in self._named().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in self.state_dict().items():
            value.copy_(state[name])

    def _named(self) -> dict[str, Tensor]:
        named = {_released_name(name): value for name, value in self._codec.encoder.state_dict().items()}
        return {**named, CODEBOOK: self._codec.codebook}


def _released_name(name: str) -> str:
    """Of a tensor of ``SEANetEncoder``: the public code wraps each convolution twice."""
    name = name.removeprefix("layers.").replace(".conv.", ".conv.conv.")
    for newer, older in (("original0", "weight_g"), ("original1", "weight_v")):
        name = name.replace(f"parametrizations.weight.{newer}", older)
    return ENCODER + name


def load_wavtokenizer(*, path: str | os.PathLike | None, **settings: Any) -> WavTokenizer | None:
    """The codec; None where no path is set. ``settings`` are its arguments."""
    return None if path is None else WavTokenizer(path=path, **settings)
