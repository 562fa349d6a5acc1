"""The networks of speech resynthesis (Polyak et al., arXiv 2104.00355): a quantiser of contours, and the vocoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from modules.ema_codebook import EMACodebook
from modules.hifigan import HifiganGenerator
from modules.strided_codec import StridedDecoder, StridedEncoder

SAMPLE_RATE = 16000
F0_HOP = 80  # samples between two frames of a contour
GRID = 1280  # samples on which units of 160 and 320, contours and their codes meet


class ContourCodec(nn.Module):
    """A signal of one channel to codes, one for so many of its samples, and back: the F0 quantiser, and learned units.

    Args:
        codes: rows of the codebook.
        dim: D, their channels.
        width, depth, growth, strides: see ``modules.strided_codec``.
        mu, threshold: see ``modules.ema_codebook``.
        with_decoder: False: only the way to the codes.
    """

    def __init__(
        self,
        *,
        codes: int,
        dim: int,
        width: int,
        depth: int,
        growth: int,
        strides: Sequence[int],
        mu: float = 0.99,
        threshold: float = 1.0,
        with_decoder: bool = True,
    ):
        super().__init__()
        sizes = {"dim": dim, "width": width, "depth": depth, "growth": growth, "strides": strides}
        self.sizes = {"codes": codes, **sizes, "strides": list(strides)}
        self.encoder = StridedEncoder(**sizes)
        self.vq = EMACodebook(vocab_size=codes, dim=dim, mu=mu, threshold=threshold)
        self.decoder = StridedDecoder(**sizes) if with_decoder else None
        self.stride = self.encoder.stride
        self.dim = dim

    @property
    def codes(self) -> int:
        return self.vq.vocab_size

    def latents(self, signal: torch.Tensor) -> torch.Tensor:
        """[B, M] -> [B, M / stride, D], rounded down."""
        return self.encoder(signal[:, None]).transpose(1, 2)

    @torch.no_grad()
    def encode(self, signal: torch.Tensor) -> torch.Tensor:
        """[B, M] -> codes [B, M / stride] int64."""
        if signal.shape[1] < self.stride:
            return torch.zeros(len(signal), 0, dtype=torch.int64, device=signal.device)
        return self.vq.encode(self.latents(signal))

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, L] -> [B, L * stride]."""
        return self.decoder(self.vq.rows(codes).transpose(1, 2))[:, 0]

    def forward(
        self, signal: torch.Tensor, places: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[B, M] -> what the decoder makes of its codes [B, M], the commitment, and the codes."""
        codes, rows, commitment = self.vq(self.latents(signal), places)
        return self.decoder(rows.transpose(1, 2))[:, 0], commitment, codes


class ResynthesisNetwork(nn.Module):
    """Units, a contour and a speaker to speech.

    What goes into the generator is, one below the other: the row of a unit, F0 as ``f0_mode`` says, the speaker's
    vector, and the mean and deviation of F0 (``f0_feats``). Of units and F0 the shorter is repeated, the others are.

    Args:
        code_hop: samples of a unit.
        num_units: of the table of units, or of the codebook of learned ones.
        embedding_dim: D of the tables.
        f0_mode: ``quantised``, ``f0_quantiser`` is frozen and its codes have a table here; ``learned``, it trains along
            and its rows go in; ``raw``, a channel; ``none``.
        f0_quantiser: without decoder, if ``learned``.
        unit_encoder: of learned units; None: units are given.
        speaker_mode: ``table`` of ``speaker_rows``, ``embedding``, a vector of ``speaker_dim`` that is given, or
            ``none``.
        f0_feats: mean and deviation are two more channels.
        upsample_factors and the others: see ``modules.hifigan``.

    Raises:
        ValueError: parts that do not fit together.
    """

    def __init__(
        self,
        *,
        code_hop: int,
        num_units: int,
        embedding_dim: int,
        f0_mode: str,
        f0_quantiser: ContourCodec | None,
        unit_encoder: ContourCodec | None,
        speaker_mode: str,
        speaker_rows: int,
        speaker_dim: int,
        f0_feats: bool,
        upsample_factors: Sequence[int],
        upsample_kernel_sizes: Sequence[int],
        upsample_initial_channel: int,
        resblock_kernel_sizes: Sequence[int],
        resblock_dilation_sizes: Sequence[Sequence[int]],
        resblock_type: str = "1",
    ):
        super().__init__()
        require_one_of("f0_mode", f0_mode, ("quantised", "learned", "raw", "none"))
        require_one_of("speaker_mode", speaker_mode, ("table", "embedding", "none"))
        self.sizes = {
            "embedding_dim": embedding_dim,
            "resblock_type": resblock_type,
            "upsample_factors": list(upsample_factors),
            "upsample_kernel_sizes": list(upsample_kernel_sizes),
            "upsample_initial_channel": upsample_initial_channel,
            "resblock_kernel_sizes": list(resblock_kernel_sizes),
            "resblock_dilation_sizes": [list(x) for x in resblock_dilation_sizes],
        }
        self.code_hop = code_hop
        self.num_units = num_units
        self.f0_mode = f0_mode
        self.speaker_mode = speaker_mode
        self.f0_feats = f0_feats
        self.quantizer = f0_quantiser if f0_mode == "quantised" else None
        self.f0_codec = f0_quantiser if f0_mode == "learned" else None
        self.code_codec = unit_encoder
        if unit_encoder is None:
            self.dict = nn.Embedding(num_units, embedding_dim)
        elif unit_encoder.stride != code_hop or unit_encoder.codes != num_units:
            raise ValueError(
                f"learned units of {unit_encoder.stride} samples (the product of unit_strides) and "
                f"{unit_encoder.codes} codes do not fit code_hop {code_hop} and num_units {num_units}"
            )
        channels = embedding_dim if unit_encoder is None else unit_encoder.dim
        if f0_mode == "quantised":
            self.f0_dict = nn.Embedding(f0_quantiser.codes, embedding_dim)
            self.quantizer.requires_grad_(False)
        learned = 0 if f0_quantiser is None else f0_quantiser.dim
        channels += {"quantised": embedding_dim, "learned": learned, "raw": 1, "none": 0}[f0_mode]
        if speaker_mode == "table":
            self.spkr = nn.Embedding(speaker_rows, embedding_dim)
        elif speaker_mode == "embedding":
            self.spkr = nn.Linear(speaker_dim, embedding_dim)
        channels += embedding_dim * (speaker_mode != "none") + 2 * f0_feats
        self.frame = F0_HOP if f0_mode == "raw" else code_hop  # samples of a frame of the generator's input
        self.channels = channels
        self.generator = HifiganGenerator(
            channels=channels,
            upsample_factors=upsample_factors,
            upsample_kernel_sizes=upsample_kernel_sizes,
            upsample_initial_channel=upsample_initial_channel,
            resblock_kernel_sizes=resblock_kernel_sizes,
            resblock_dilation_sizes=resblock_dilation_sizes,
            resblock_type=resblock_type,
        )
        if self.generator.upsampling != self.frame:
            what = "80, the samples of a frame of F0 (f0_mode raw)" if f0_mode == "raw" else f"code_hop {code_hop}"
            raise ValueError(
                f"the product of upsample_factors {list(upsample_factors)}, {self.generator.upsampling}, must be {what}"
            )
        if code_hop % self.frame or GRID % code_hop:
            raise ValueError(f"code_hop must divide {GRID} and be a multiple of {self.frame}, got {code_hop}")

    # -- the streams -----------------------------------------------------------------------------------------------

    @property
    def f0_codec_in_use(self) -> ContourCodec | None:
        return self.quantizer if self.quantizer is not None else self.f0_codec

    def unit_rows(self, units: torch.Tensor) -> torch.Tensor:
        """Units [B, N] -> [B, D, N]."""
        return (self.dict(units) if self.code_codec is None else self.code_codec.vq.rows(units)).transpose(1, 2)

    def f0_rows(self, f0: torch.Tensor) -> torch.Tensor:
        """A contour [B, M], normalised as the recipe says -> [B, C, M / 16], or [B, 1, M]."""
        if self.f0_mode == "raw":
            return f0[:, None]
        codes = self.f0_codec_in_use.encode(f0)
        return (self.f0_dict(codes) if self.f0_mode == "quantised" else self.f0_codec.vq.rows(codes)).transpose(1, 2)

    def inputs(
        self,
        units: torch.Tensor,
        f0: torch.Tensor | None,
        speaker: torch.Tensor | None,
        f0_stats: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the generator is given.

        Args:
            units: their rows [B, D, N].
            f0: its rows [B, C, L]; None without.
            speaker: rows' numbers [B] int64, or vectors [B, E].
            f0_stats: [B, 2].

        Returns:
            [B, channels, frames].

        Raises:
            ValueError: lengths that do not divide.
        """
        parts = [units]
        if f0 is not None:
            frames = max(units.shape[2], f0.shape[2])
            if min(units.shape[2], f0.shape[2]) == 0 or frames % units.shape[2] or frames % f0.shape[2]:
                raise ValueError(f"{units.shape[2]} units and {f0.shape[2]} frames of F0 do not divide each other")
            parts = [x.repeat_interleave(frames // x.shape[2], dim=2) for x in (units, f0)]
        frames = parts[0].shape[2]
        if self.speaker_mode != "none":
            parts.append(self.spkr(speaker)[:, :, None].expand(-1, -1, frames))
        if self.f0_feats:
            parts.append(f0_stats[:, :, None].expand(-1, -1, frames))
        return torch.cat(parts, dim=1)

    def forward(
        self,
        *,
        units: torch.Tensor | None,
        wav: torch.Tensor | None = None,
        f0: torch.Tensor | None = None,
        speaker: torch.Tensor | None = None,
        f0_stats: torch.Tensor | None = None,
        places: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """In training: speech [B, T], and the commitment of whatever is learned here, or None.

        Args:
            units: [B, N]; None where they are learned, from ``wav`` [B, T].
            f0: [B, M], normalised.
            places: [B], the number of each item in its step.
        """
        commitments = []
        if self.code_codec is not None:
            _, rows, commitment = self.code_codec.vq(self.code_codec.latents(wav), places)
            rows = rows.transpose(1, 2)
            commitments.append(commitment)
        else:
            rows = self.unit_rows(units)
        if self.f0_mode == "none":
            f0_rows = None
        elif self.f0_codec is not None:
            _, found, commitment = self.f0_codec.vq(self.f0_codec.latents(f0), places)
            f0_rows = found.transpose(1, 2)
            commitments.append(commitment)
        else:
            f0_rows = self.f0_rows(f0)
        speech = self.generator(self.inputs(rows, f0_rows, speaker, f0_stats)).float()
        return speech, sum(commitments) if commitments else None


def require_one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
