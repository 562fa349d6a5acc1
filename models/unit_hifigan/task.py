"""How the unit HiFi-GAN trains: a generator of speech from tokens against discriminators (arXiv 2406.10735)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from speechbrain.lobes.models.HifiGAN import UnitHifiganGenerator
from torch import nn

from models.unit_hifigan.export import generator_arguments, write_released
from models.unit_hifigan.files import write_vocoder
from models.unit_hifigan.vocoder import UnitHifiGAN
from modules.adversarial import against_discriminators
from modules.losses import lsgan_discriminator_loss, lsgan_generator_loss
from modules.mel import MelDistance
from modules.spectral import spectrogram_image
from utils.task import Batch, Media, Networks, Objective, Task

FORMATS = ("released", "safetensors")
DTYPES = ("float32", "float16")


class TokenVocoding(Task):
    """Adversarial training of a vocoder that can do with any subset of its codebooks.

    The discriminators step first, on real speech and the detached fake, and then the generator, on the same fake:

        discriminators: LSGAN, the sum over the sub-discriminators
        generator: mel_weight * L1 of log-mel + adversarial_weight * LSGAN, the sum over the sub-discriminators
            + feature_weight * feature matching, the mean over all layers of all of them

    These are the sums and means of SpeechBrain's ``GeneratorLoss`` and ``DiscriminatorLoss`` with HiFi-GAN's parts,
    but that here they are taken in float32 whatever the networks compute in.

    A batch holds ``tokens`` [B, N, K] int64 in [0, V) and ``wav`` [B, N * hop], what they were made of. Validation
    tells ``mel``, the distance that the loss weighs, and ``stoi``, short-time objective intelligibility (pystoi) of the
    items that have enough speech for it.

    Args:
        generator: what trains. Row 1 + V * codebook + token of its table is a token, row 0 a missing codebook.
        discriminator: ``modules.discriminators.Discriminators``, or any network that gives the scores and
            the layers' outputs of its parts for wav [B, 1, T]; None trains with the mel loss alone.
        layers: the encoder's layers that the tokens are of, in the order of the codebooks.
        vocab_size: V.
        generator_optimizer: makes the optimizer of the generator's parameters.
        discriminator_optimizer: makes that of the discriminator's.
        mel: the distance of log-mel spectrograms.
        mel_weight, adversarial_weight, feature_weight: as above.
        layer_dropout: in training, d codebooks of each item are missing from all its frames, d uniform in 0 to K - 1
            and the d codebooks chosen at random: a "scalable" vocoder.
        recompute_fake: compute the fake a second time for the generator's half of a step, instead of keeping what its
            gradient needs of all micro-batches while the discriminators step: more time, less memory.
        export_format: ``released``, the public layout, or ``safetensors``, this project's.
        export_dtype: ``float32``, or ``float16`` for files of half the size; the weights are rounded.

    Raises:
        ValueError: parts that do not fit together, or a format that nobody knows.
    """

    def __init__(
        self,
        *,
        generator: UnitHifiganGenerator,
        discriminator: nn.Module | None,
        layers: Sequence[int],
        vocab_size: int,
        generator_optimizer: Callable[..., torch.optim.Optimizer],
        discriminator_optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        mel: MelDistance,
        mel_weight: float = 45.0,
        adversarial_weight: float = 1.0,
        feature_weight: float = 10.0,
        layer_dropout: bool = True,
        recompute_fake: bool = False,
        export_format: str = "released",
        export_dtype: str = "float32",
    ):
        super().__init__()
        rows = generator.unit_embedding.num_embeddings
        if rows != table_rows(layers=layers, vocab_size=vocab_size):
            raise ValueError(
                f"{len(layers)} layers of {vocab_size} clusters, and a row for a missing one, need "
                f"{table_rows(layers=layers, vocab_size=vocab_size)} embeddings; the generator's vocab_size is {rows}"
            )
        if discriminator is not None and discriminator_optimizer is None:
            raise ValueError("a discriminator needs a discriminator_optimizer")
        for name, value, known in (
            ("export_format", export_format, FORMATS),
            ("export_dtype", export_dtype, DTYPES),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.generator_arguments = generator_arguments(generator)
        self.generator = generator
        self.discriminator = discriminator
        self.layers = list(layers)
        self.vocab_size = vocab_size
        self.make_generator_optimizer = generator_optimizer
        self.make_discriminator_optimizer = discriminator_optimizer
        self.mel = mel
        self.mel_weight = mel_weight
        self.adversarial_weight = adversarial_weight
        self.feature_weight = feature_weight
        self.layer_dropout = layer_dropout
        self.recompute_fake = recompute_fake
        self.export_format = export_format
        self.export_dtype = export_dtype
        self.hop_length = math.prod(self.generator_arguments["upsample_factors"])
        self.register_buffer("offsets", 1 + vocab_size * torch.arange(len(layers)), persistent=False)

    def networks(self) -> dict[str, nn.Module]:
        found = {"generator": self.generator, "discriminator": self.discriminator}
        return {name: network for name, network in found.items() if network is not None}

    def settings(self) -> dict[str, object]:
        return {"layers": self.layers, "vocab_size": self.vocab_size}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        made = {"generator": self.make_generator_optimizer(self.generator.parameters())}
        if self.discriminator is not None:
            made["discriminator"] = self.make_discriminator_optimizer(self.discriminator.parameters())
        return made

    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        real = batch["wav"]
        ids = self._ids_of(batch)
        with torch.set_grad_enabled(self.discriminator is None or not self.recompute_fake):
            fake = _generate(networks["generator"], ids)
        if self.discriminator is not None:
            # One pass for both halves: no layer looks across items, and weight norm is computed once.
            scores, _ = networks["discriminator"](torch.cat([real, fake.detach()])[:, None])
            halves = [score.chunk(2) for score in scores]
            loss = lsgan_discriminator_loss([real for real, _ in halves], [fake for _, fake in halves])
            yield Objective("discriminator", loss, {"loss_discriminator": loss.detach()})
            if self.recompute_fake:
                fake = _generate(networks["generator"], ids)
        mel = self.mel(fake, real)
        loss = self.mel_weight * mel
        metrics = {"mel": mel.detach()}
        if self.discriminator is not None:
            adversarial, features = against_discriminators(self.discriminator, real, fake, loss=lsgan_generator_loss)
            loss = loss + self.adversarial_weight * adversarial + self.feature_weight * features
            metrics |= {"adversarial": adversarial.detach(), "features": features.detach()}
        yield Objective("generator", loss, {"loss": loss.detach(), **metrics})

    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, int]]:
        real, fake = batch["wav"], self._resynthesise(batch)
        metrics = {"mel": (self.mel(fake, real) * len(real), len(real))}
        if scores := [score for pair in zip(real, fake, strict=True) if (score := _stoi(*pair)) is not None]:
            metrics["stoi"] = (torch.tensor(sum(scores)), len(scores))
        return metrics

    @torch.no_grad()
    def media(self, batch: Batch) -> Media:
        """The first item, as it was and resynthesised from its tokens."""
        first = {name: value[:1] for name, value in batch.items()}
        audio = {"real": first["wav"][0], "resynthesised": self._resynthesise(first)[0]}
        images = {name: spectrogram_image(wav) for name, wav in audio.items()}
        return Media(audio=audio, images=images, sample_rate=UnitHifiGAN.sample_rate)

    def export(self, folder: Path) -> list[Path]:
        """Write the generator as a vocoder folder, which ``models.unit_hifigan.vocoder.load_vocoder`` reads."""
        state = {
            name: value.to(getattr(torch, self.export_dtype)) for name, value in self.generator.state_dict().items()
        }
        if self.export_format == "safetensors":
            return write_vocoder(folder, self.generator_arguments, state)
        title = (
            f"Unit HiFi-GAN: tokens of the layers {self.layers}, {self.vocab_size} clusters each, to speech at "
            f"{UnitHifiGAN.sample_rate} Hz."
        )
        return write_released(folder, self.generator_arguments, state, title=title)

    def ids(self, tokens: torch.Tensor) -> torch.Tensor:
        """Rows of the generator's table for tokens [B, N, K]; in training, some codebooks of an item are missing."""
        ids = tokens + self.offsets
        if not (self.training and self.layer_dropout):
            return ids
        items, _, codebooks = tokens.shape
        order = torch.rand(items, codebooks, device=tokens.device).argsort(dim=1)
        missing = order < torch.randint(codebooks, (items, 1), device=tokens.device)
        return ids.masked_fill(missing[:, None], 0)

    def _ids_of(self, batch: Batch) -> torch.Tensor:
        """Rows of the generator's table for a batch.

        Raises:
            ValueError: the tokens, or what they were made of, are not as the generator needs them.
        """
        tokens, wav = batch["tokens"], batch["wav"]
        if tokens.shape[1] < UnitHifiGAN.SHORTEST:
            raise ValueError(f"the generator needs {UnitHifiGAN.SHORTEST} frames or more, got {tokens.shape[1]}")
        if tokens.shape[2] != len(self.layers) or wav.shape[1] != tokens.shape[1] * self.hop_length:
            raise ValueError(
                f"the generator makes {self.hop_length} samples of each frame of {len(self.layers)} tokens; got tokens "
                f"{list(tokens.shape)} and wav {list(wav.shape)}"
            )
        return self.ids(tokens)

    def _resynthesise(self, batch: Batch) -> torch.Tensor:
        """The same in float32, as the exported vocoder does it, also where training rounds to bfloat16."""
        with torch.autocast(batch["wav"].device.type, enabled=False):
            return _generate(self.generator, self._ids_of(batch))


def table_rows(*, layers: Sequence[int], vocab_size: int) -> int:
    """Rows of a generator's table of embeddings: one for each cluster of each layer, and one for a missing layer."""
    return len(layers) * vocab_size + 1


def _generate(generator: Callable[..., torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """Speech [B, T] float32 from rows ``ids`` [B, N, K] of the table."""
    return generator(ids)[0].squeeze(1).float()


def _stoi(real: torch.Tensor, fake: torch.Tensor) -> float | None:
    """Short-time objective intelligibility of ``fake`` [T]; None where ``real`` [T] has too little speech."""
    from pystoi import stoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # with too little speech it warns, and answers 1e-5
        try:
            return float(stoi(real.cpu().numpy(), fake.cpu().numpy(), UnitHifiGAN.sample_rate))
        except RuntimeWarning:
            return None
