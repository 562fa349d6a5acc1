"""Unit HiFi-GAN behind the vocoder contract: tokens of any subset of the layers to a waveform."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

import torch
from speechbrain.lobes.models.HifiGAN import UnitHifiganGenerator
from torch.nn.utils import parametrize

from models.unit_hifigan.files import read_vocoder
from modules.frozen import Frozen
from utils.checkpoint import flatten, load, load_tensors, require_same

MISSING = -1  # the token of a layer that is not given
FIRST_FACTOR = 5  # with a smaller first upsampling, a sample would depend on more frames than CONTEXT


class UnitHifiGAN(Frozen):
    """Decodes tokens with SpeechBrain's generator, in bounded memory.

    Row ``token + 1 + V * codebook`` of the generator's one embedding table is a token; row 0 says that the layer is
    missing. A frame becomes ``hop_length`` samples, exactly.

    Args:
        generator: the network, its weights loaded. It becomes this vocoder's own: weight norm is folded into its
            weights. torch's ``deepcopy`` of a network with weight norm shares a class with it, and folding breaks the
            other one; so of a network that trains on, build a new one and load its state.
        vocab_size: V, the clusters of each layer.
        trained_layers: the layers that the generator was trained on, in the order of its table.
        layers: those, of these, whose tokens it is given here; the others count as missing.
        piece_frames: longer inputs are decoded this many frames at a time, which changes nothing but the memory.

    Raises:
        ValueError: the generator's table was not made for these layers and clusters and one missing row, or a layer
            was not trained.
    """

    checkpoint = "refused"  # it has its weights
    sample_rate = 16000
    CONTEXT = 21  # frames on either side that a sample can depend on: the receptive field of the convolutions
    SHORTEST = 6  # frames; the reflection padding of the generator needs as many

    def __init__(
        self,
        *,
        generator: UnitHifiganGenerator,
        vocab_size: int,
        trained_layers: Sequence[int],
        layers: Sequence[int],
        piece_frames: int = 1000,
    ):
        super().__init__()
        rows = generator.unit_embedding.num_embeddings
        if rows != len(trained_layers) * vocab_size + 1:
            raise ValueError(
                f"a vocoder for {len(trained_layers)} layers of {vocab_size} clusters has "
                f"{len(trained_layers) * vocab_size + 1} embeddings, this one has {rows}"
            )
        if unknown := [layer for layer in layers if layer not in trained_layers]:
            raise ValueError(f"the vocoder was trained on layers {list(trained_layers)}, not on {unknown}")
        self.generator = generator
        if self.checkpoint == "refused":
            self._fold_weight_norm()
        self.num_codebooks = len(layers)
        self.vocab_size = vocab_size
        self.trained_codebooks = len(trained_layers)
        self.positions = [trained_layers.index(layer) for layer in layers]
        self.piece_frames = piece_frames
        self.hop_length = math.prod(up.conv.stride[0] for up in generator.ups)
        if (first := generator.ups[0].conv.stride[0]) < FIRST_FACTOR:
            raise ValueError(
                f"decoding in pieces is exact with a first upsampling factor of {FIRST_FACTOR} or more, got {first}"
            )
        self.register_buffer("offsets", 1 + vocab_size * torch.tensor(self.positions), persistent=False)
        self.freeze()

    @torch.no_grad()
    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens to speech.

        Args:
            tokens: [B, N, K] int64 in [0, V), or ``MISSING`` for a layer that is not given.

        Returns:
            [B, N * hop_length] float32 in (-1, 1).
        """
        return torch.cat(list(self.parts(tokens)), dim=1)

    def parts(self, tokens: torch.Tensor) -> Iterator[torch.Tensor]:
        """The same, in parts of ``piece_frames``, each decoded when it is asked for.

        Each is decoded with the frames around it that its samples depend on, and only its own are kept.
        """
        if tokens.ndim != 3 or tokens.shape[-1] != self.num_codebooks:
            raise ValueError(f"the vocoder reads tokens [B, N, {self.num_codebooks}], got {list(tokens.shape)}")
        frames = tokens.shape[1]
        if frames == 0:
            yield torch.zeros(len(tokens), 0, device=tokens.device)
        for start in range(0, frames, self.piece_frames):
            stop = min(start + self.piece_frames, frames)
            left, right = max(start - self.CONTEXT, 0), min(stop + self.CONTEXT, frames)
            wav = self._generate(tokens[:, left:right])
            yield wav[:, (start - left) * self.hop_length : (stop - left) * self.hop_length]

    def _fold_weight_norm(self) -> None:
        """Weight norm is for training: the weights are the same without it."""
        for module in self.generator.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")

    @torch.no_grad()
    def _generate(self, tokens: torch.Tensor) -> torch.Tensor:
        given = dict(
            zip(self.positions, torch.where(tokens == MISSING, 0, tokens + self.offsets).unbind(-1), strict=True)
        )
        missing = torch.zeros_like(tokens[..., 0])
        # Not by an index of positions: it would come from the host each time, and be sorted on CUDA.
        ids = torch.stack([given.get(k, missing) for k in range(self.trained_codebooks)], dim=-1)
        if ids.shape[1] < self.SHORTEST:
            ids = torch.cat([ids, ids[:, -1:].expand(-1, self.SHORTEST - ids.shape[1], -1)], dim=1)
        return self.generator(ids)[0].squeeze(1).float()


class UntrainedUnitHifiGAN(UnitHifiGAN):
    """The vocoder of the recipe that trains it: its weights come with a checkpoint.

    Args:
        generator: the network that the recipe trains.
        vocab_size: V.
        layers: that it is trained on; all of them are given.
    """

    checkpoint = "needed"

    def __init__(self, *, generator: UnitHifiganGenerator, vocab_size: int, layers: Sequence[int]):
        super().__init__(generator=generator, vocab_size=vocab_size, trained_layers=layers, layers=layers)
        self.layers = list(layers)

    def load_checkpoint(self, path: str | os.PathLike) -> None:
        """Load a checkpoint of its training, or a vocoder folder, which is what that exports.

        Raises:
            FileNotFoundError: there is no such file or folder, or a part of it is missing.
            ValueError: it is broken, holds code, or was trained on other layers, or with another network.
        """
        if os.path.isdir(path):
            _, state = read_vocoder(path)
            tensors = flatten({"generator": state})
        else:
            saved = load(path)
            require_same(saved, frozen={}, settings={"layers": self.layers, "vocab_size": self.vocab_size}, source=path)
            tensors = {name: x for name, x in saved.get("model", {}).items() if name.startswith("generator.")}
        load_tensors({"generator": self.generator}, tensors, path)
        self._fold_weight_norm()


def load_vocoder(
    folder: str | os.PathLike, *, vocab_size: int, trained_layers: Sequence[int], layers: Sequence[int]
) -> UnitHifiGAN:
    """Build a vocoder from a folder, in the released layout or in ours; the arguments are those of ``UnitHifiGAN``.

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing in it.
        ValueError: the files hold code, or other tensors than the generator needs, or another number of tokens.
    """
    arguments, state = read_vocoder(folder)
    generator = UnitHifiganGenerator(**arguments)
    load_tensors({"generator": generator}, flatten({"generator": state}), folder)
    return UnitHifiGAN(generator=generator, vocab_size=vocab_size, trained_layers=trained_layers, layers=layers)
