"""The network of LiMuSE (arXiv 2111.04063)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from models.limuse.blocks import Conv1d, GlobalNorm, GroupTCN, Layer, Linear, with_context
from models.limuse.quantiser import HIGHEST_TEMPERATURE, WeightQuantiser, round_activations

CUES = ("voiceprint", "visual")  # in the order of the streams
# The order of alpha, beta and thresholds, as released.
QUANTISED = (
    "encoder", "voiceprint_encoder", "visual_encoder", "context_enc_1", "context_enc_2", "audio_block", "fusion_block",
    "context_dec_1", "context_dec_2", "gen_masks",
)  # fmt: skip


class Masks(nn.Module):
    """[B, M N, F] -> [B, N, F], without an activation."""

    def __init__(self, *, channels: int, filters: int, activation_bits: int | None):
        super().__init__()
        self.conv1d = Conv1d(channels, filters, 1)
        self.bits = activation_bits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1d(round_activations(x, self.bits, x.shape[0]))


class LiMuSE(nn.Module):
    """From a mixture and cues of one talker to his speech at microphone 0.

        mixture -> encoder -> e -> norm -> audio codec --------+
        voiceprint -> voiceprint_encoder -> norm, repeated ----+-> fusion codec -> gen_masks -> x e -> decoder
        face -> visual_encoder, interpolated -> norm ----------+

    A codec is ``models.limuse.blocks.with_context``, or its core alone. In training mode quantised weights are soft
    steps of ``temperature``, otherwise hard ones.

    Args:
        num_filters: N.
        filter_length: L, even; a frame every L / 2 samples.
        groups: K, which divides the channels; None: no groups.
        context_codec: False: the blocks run over all frames.
        context_length: Q, frames of a context block, even.
        context_hidden: H of the context modules, a stream.
        layers, audio_repeats, fusion_repeats, context_layers: of the GC-TCNs.
        channels: C, microphones.
        cues: ``voiceprint``, ``visual`` or both.
        voiceprint_dim, visual_dim: sizes of the cues.
        quantised: weights of ``weight_bits``, activations of ``activation_bits`` (None: left alone).

    Raises:
        ValueError: sizes that do not divide, an unknown cue or none, or bits that cannot be.
    """

    def __init__(
        self,
        *,
        num_filters: int = 128,
        filter_length: int = 32,
        groups: int | None = 16,
        context_codec: bool = True,
        context_length: int = 32,
        context_hidden: int = 256,
        layers: int = 6,
        audio_repeats: int = 2,
        fusion_repeats: int = 1,
        context_layers: int = 2,
        channels: int = 2,
        cues: Sequence[str] = CUES,
        voiceprint_dim: int = 512,
        visual_dim: int = 256,
        quantised: bool = False,
        weight_bits: int = 3,
        activation_bits: int | None = 8,
    ):
        super().__init__()
        counts = {
            "num_filters": num_filters, "context_hidden": context_hidden, "layers": layers, "channels": channels,
            "audio_repeats": audio_repeats, "fusion_repeats": fusion_repeats, "context_layers": context_layers,
            "voiceprint_dim": voiceprint_dim, "visual_dim": visual_dim,
        }  # fmt: skip
        _require_sizes(counts, groups, filter_length, context_length, activation_bits)
        self.cues = ordered_cues(cues)
        self.streams = 1 + len(self.cues)
        self.filter_length = filter_length
        self.hop = filter_length // 2
        self.context_length = context_length if context_codec else None
        self.channels = channels
        self.voiceprint_dim = voiceprint_dim
        self.visual_dim = visual_dim
        self.quantised = quantised
        self.weight_bits = weight_bits if quantised else None
        self.activation_bits = bits = activation_bits if quantised else None
        self.temperature = 1.0
        self._facts = {
            **counts, "filter_length": filter_length, "groups": groups, "context_codec": context_codec,
            "context_length": self.context_length, "cues": list(self.cues), "weight_bits": self.weight_bits,
        }  # fmt: skip
        all_channels, short = self.streams * num_filters, {"layers": context_layers, "repeats": 1}

        def tcn(channels: int, hidden: int, layers: int, repeats: int) -> GroupTCN:
            sizes = {"channels": channels, "hidden": hidden, "layers": layers, "repeats": repeats}
            return GroupTCN(**sizes, groups=groups, activation_bits=bits)

        self.encoder = Conv1d(channels, num_filters, filter_length, stride=self.hop)
        if "voiceprint" in self.cues:
            self.voiceprint_encoder = Conv1d(voiceprint_dim, num_filters, 1)
        if "visual" in self.cues:
            self.visual_encoder = Linear(visual_dim, num_filters)
        self.Normal_S = GlobalNorm(num_filters)
        if context_codec:
            self.context_enc_1 = tcn(num_filters, context_hidden, **short)
            self.context_dec_1 = tcn(num_filters, context_hidden, **short)
            self.context_enc_2 = tcn(all_channels, self.streams * context_hidden, **short)
            self.context_dec_2 = tcn(all_channels, self.streams * context_hidden, **short)
        self.audio_block = tcn(num_filters, 4 * num_filters, layers, audio_repeats)
        self.fusion_block = tcn(all_channels, 4 * all_channels, layers, fusion_repeats)
        self.gen_masks = Masks(channels=all_channels, filters=num_filters, activation_bits=bits)
        self.decoder = nn.ConvTranspose1d(num_filters, 1, filter_length, stride=self.hop)
        self._begin_with_the_mixture()
        self.quantiser = WeightQuantiser(count=len(self.quantised_layers()), bits=weight_bits) if quantised else None

    def forward(
        self, mixture: torch.Tensor, voiceprint: torch.Tensor | None = None, visual: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            mixture: [B, C, T].
            voiceprint: [B, voiceprint_dim], if it is a cue.
            visual: [B, V, visual_dim], 25 frames a second, if it is a cue.

        Returns:
            [B, T].
        """
        with self._quantised_weights():
            encoded = self.encoder(self._whole_frames(mixture))  # e: [B, N, F]
            frames = encoded.shape[-1]
            streams = [self._codec(self.Normal_S(encoded), "1", self.audio_block)]
            if "voiceprint" in self.cues:
                # Normalised before it is repeated: the statistics are the same.
                streams.append(self.Normal_S(self.voiceprint_encoder(voiceprint[..., None])).expand(-1, -1, frames))
            if "visual" in self.cues:
                face = self.visual_encoder(visual).transpose(1, 2)
                streams.append(self.Normal_S(F.interpolate(face, size=frames, mode="linear", align_corners=False)))
            fused = torch.stack(streams, dim=2).flatten(1, 2)  # channel M n + m: channel n of stream m
            masks = self.gen_masks(self._codec(fused, "2", self.fusion_block))
            return self.decoder(masks * encoded)[:, 0, : mixture.shape[-1]]

    @torch.no_grad()
    def _begin_with_the_mixture(self) -> None:
        """Let the output begin as about the first channel: SI-SDR is blind to its sign and its mean.

        Of biases drawn at random that of the decoder would never move, and that of the encoder hides quiet recordings.
        """
        self.decoder.weight.copy_(self.encoder.weight[:, :1])
        self.gen_masks.conv1d.weight.mul_(0.1)
        self.gen_masks.conv1d.bias.fill_(1.0)
        self.encoder.bias.zero_()
        self.decoder.bias.zero_()

    def facts(self) -> dict[str, Any]:
        """By the keys of a recipe, what trained weights must share with the network that they are loaded into."""
        return dict(self._facts)

    @property
    def steps(self) -> int:
        """Thresholds of a quantised tensor, 2 m; 0 in full precision."""
        return 2**self.weight_bits - 2 if self.quantised else 0

    def quantised_layers(self) -> dict[str, Layer]:
        """Released name of the weight -> layer, of those that are quantised, in the order of alpha and beta."""
        found = {}
        for part in QUANTISED:
            if hasattr(self, part):
                layers = self.get_submodule(part).named_modules(prefix=part)
                found |= {f"{name}.weight": layer for name, layer in layers if isinstance(layer, Layer)}
        return found

    def quantised_weights(self) -> list[torch.Tensor]:
        """The stored, float weights of these layers."""
        return [layer.weight for layer in self.quantised_layers().values()]

    @torch.no_grad()
    def harden(self) -> None:
        """Put the hard values in the place of the weights, for good, and go on without the quantiser."""
        if self.quantiser is not None:
            values = self.quantiser.hard(self.quantised_weights())
            for layer, value in zip(self.quantised_layers().values(), values, strict=True):
                layer.weight.copy_(value)
            self.quantiser = None

    def frames(self, samples: int) -> int:
        """F of so many samples."""
        # Without negative numbers, which an exported graph may divide in another way.
        return (max(samples - self.filter_length, 0) + self.hop - 1) // self.hop + 1

    def _whole_frames(self, mixture: torch.Tensor) -> torch.Tensor:
        samples = mixture.shape[-1]
        return F.pad(mixture, (0, (self.frames(samples) - 1) * self.hop + self.filter_length - samples))

    def _codec(self, x: torch.Tensor, which: str, core: nn.Module) -> torch.Tensor:
        if self.context_length is None:
            return core(x)
        encode, decode = (self.get_submodule(f"context_{part}_{which}") for part in ("enc", "dec"))
        rounds = self.activation_bits is not None
        return with_context(x, encode, core, decode, self.context_length, rounds=rounds)

    @contextlib.contextmanager
    def _quantised_weights(self) -> Iterator[None]:
        """In this context the layers use the quantised values of their weights."""
        if self.quantiser is None:
            yield
            return
        layers, weights = list(self.quantised_layers().values()), self.quantised_weights()
        values = self.quantiser.soft(weights, self.temperature) if self.training else self.quantiser.hard(weights)
        try:
            for layer, value in zip(layers, values, strict=True):
                layer.quantised = value
            yield
        finally:
            for layer in layers:
                layer.quantised = None


def ordered_cues(cues: Sequence[str]) -> tuple[str, ...]:
    """The cues in the order of the streams.

    Raises:
        ValueError: an unknown one, one that is there twice, or none.
    """
    if unknown := [cue for cue in cues if cue not in CUES]:
        raise ValueError(f"cues are {' and '.join(CUES)}, got {', '.join(map(str, unknown))}")
    if not cues or len(set(cues)) < len(cues):
        raise ValueError(f"cues must name {' or '.join(CUES)}, or both, each once; got {list(cues)}")
    return tuple(cue for cue in CUES if cue in cues)


def stage_temperature(temperature: float, epoch: int) -> float:
    """Of the soft steps in an epoch, counted from 0."""
    return min(HIGHEST_TEMPERATURE, temperature * (epoch + 1))


def _require_sizes(
    counts: dict[str, int], groups: int | None, filter_length: int, context_length: int, activation_bits: int | None
) -> None:
    if low := [f"{key} {value}" for key, value in counts.items() if value < 1]:
        raise ValueError(f"sizes must be above 0, got {', '.join(low)}")
    for key, value in {"filter_length": filter_length, "context_length": context_length}.items():
        if value < 2 or value % 2:
            raise ValueError(f"{key} must be an even number above 0, got {value}")
    if groups is not None:
        if groups < 1:
            raise ValueError(f"groups must be above 0, or null for none, got {groups}")
        for key in ("num_filters", "context_hidden"):
            if counts[key] % groups:
                raise ValueError(f"groups must divide {key}, got {groups} and {counts[key]}")
    if activation_bits is not None and not 2 <= activation_bits <= 16:
        raise ValueError(f"activation_bits must be from 2 to 16, or null, got {activation_bits}")
