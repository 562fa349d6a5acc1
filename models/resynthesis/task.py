"""How speech resynthesis trains: the F0 quantiser, and then the vocoder with that quantiser frozen inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.resynthesis.contours import normalise
from models.resynthesis.files import (
    QUANTIZER,
    VOCODER,
    PublicSettings,
    network_tensors,
    public_config,
    public_state,
    quantiser_settings,
    quantiser_tensors,
    write_generator,
)
from models.resynthesis.network import ContourCodec, ResynthesisNetwork
from modules.adversarial import against_discriminators
from modules.ema_codebook import EMACodebook
from modules.losses import lsgan_discriminator_loss, lsgan_generator_loss
from modules.mel import MelDistance
from modules.spectral import spectrogram_image
from utils.files import write_text
from utils.task import Batch, Media, Networks, Objective, Task


class CodebookTask(Task):
    """What both trainings share: codebooks that follow their vectors after each step that was taken."""

    steps_done = 0

    def codebooks(self) -> dict[str, EMACodebook]:
        """Those that learn here, by name."""
        return {}

    def begin_step(self, step: int) -> None:
        self.steps_done = step + 1

    def end_step(self, sum_over_processes: Callable[[torch.Tensor], torch.Tensor]) -> None:
        books = self.codebooks()
        if not books:
            return
        gradients = [p.grad for network in self.networks().values() for p in network.parameters() if p.grad is not None]
        taken = nn.utils.get_total_norm(gradients).isfinite()  # a step whose gradient is not is not taken
        for name, book in books.items():
            counts = book.update(seed=self.steps_done, sum_over_processes=sum_over_processes, taken=taken)
            self.saw(name, counts)

    def saw(self, name: str, counts: torch.Tensor) -> None:
        """How many vectors of a step had each code of a codebook."""


class ContourQuantisation(CodebookTask):
    """Training of the F0 quantiser: mean squared error over all frames of the normalised contour, and commitment.

    A batch holds ``f0`` [B, M] in Hz, ``f0_stats`` [B, 2] and ``f0_median`` [B] to normalise it by, and ``index`` [B].
    Validation tells ``loss``, ``mse``, ``commit``, and ``used_codes``: those that vectors had since the last one.

    Args:
        quantizer: what trains.
        optimizer: makes the optimizer of its parameters.
        commit_weight: of the commitment.
        f0_normalize, f0_median: what becomes of a contour, see ``models.resynthesis.contours``.
    """

    def __init__(
        self,
        *,
        quantizer: ContourCodec,
        optimizer: Callable[..., torch.optim.Optimizer],
        commit_weight: float = 0.02,
        f0_normalize: bool = True,
        f0_median: bool = False,
    ):
        super().__init__()
        self.quantizer = quantizer
        self.make_optimizer = optimizer
        self.commit_weight = commit_weight
        self.f0_normalize = f0_normalize
        self.f0_median = f0_median
        self.register_buffer("seen", torch.zeros(quantizer.codes), persistent=False)

    def networks(self) -> dict[str, nn.Module]:
        return {QUANTIZER: self.quantizer}

    def codebooks(self) -> dict[str, EMACodebook]:
        return {QUANTIZER: self.quantizer.vq}

    def settings(self) -> dict[str, Any]:
        return {"f0_sizes": self.quantizer.sizes, "f0_normalize": self.f0_normalize}

    def adopt(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if any(name.startswith(f"{QUANTIZER}.") for name in tensors):
            return tensors
        public = {n.removeprefix("generator."): x for n, x in tensors.items() if n.startswith("generator.")}
        return {f"{QUANTIZER}.{name}": x for name, x in quantiser_tensors(self.quantizer, public).items()}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {QUANTIZER: self.make_optimizer(self.quantizer.parameters())}

    @torch.no_grad()
    def prepare(self, batches: Iterator[Batch], *, loaded: frozenset[str]) -> None:
        if QUANTIZER not in loaded:
            self.quantizer.vq.start(self.quantizer.latents(self._contours(next(batches))).flatten(0, 1))

    def begin_epoch(self, epoch: int) -> None:
        self.seen.zero_()

    def saw(self, name: str, counts: torch.Tensor) -> None:
        self.seen += counts

    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        contours = self._contours(batch)
        found, commitment, _ = networks[QUANTIZER](contours, batch["index"])
        mse = (found.float() - contours).square().mean()
        loss = mse + self.commit_weight * commitment
        metrics = {"loss": loss.detach(), "mse": mse.detach(), "commit": commitment.detach()}
        yield Objective(QUANTIZER, loss, metrics)

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, int]]:
        contours, items = self._contours(batch), len(batch["f0"])
        with torch.autocast(contours.device.type, enabled=False):
            found, commitment, _ = self.quantizer(contours)
        mse = (found - contours).square().mean()
        values = {"loss": mse + self.commit_weight * commitment, "mse": mse, "commit": commitment}
        if self.seen.any():
            values["used_codes"] = (self.seen > 0).sum()
        return {name: (value * items, items) for name, value in values.items()}

    def export(self, folder: Path) -> list[Path]:
        """Write ``g_########`` and ``config.json``, which public code reads, and ``f0_quantizer_path`` names."""
        config = public_config(quantiser_settings(self.quantizer))
        wrapped = nn.Module()
        wrapped.quantizer = self.quantizer
        state = {name.removeprefix("quantizer."): x for name, x in public_state(wrapped).items()}
        return write_generator(folder, state, step=self.steps_done, config=config)

    def _contours(self, batch: Batch) -> torch.Tensor:
        return prepared_contours(batch, normalized=self.f0_normalize, median=self.f0_median)


class VoiceVocoding(CodebookTask):
    """Adversarial training of the vocoder (HiFi-GAN's losses, arXiv 2010.05646).

    The discriminators step first, on real speech and the detached fake, and then the vocoder, on the same fake:

        discriminators: LSGAN, the sum over the sub-discriminators
        vocoder: mel_weight * L1 of log-mel + adversarial_weight * LSGAN, the sum over the sub-discriminators
            + feature_weight * feature matching, the sum over all layers + commit_weight * commitment of what is learned

    A batch holds ``wav`` [B, T], ``index`` [B], and what the network asks for: ``units`` [B, T / hop], ``f0``
    [B, T / 80] in Hz with ``f0_stats`` [B, 2] and ``f0_median`` [B], ``speaker`` [B] or [B, E]. Validation tells
    ``mel``, the distance that the loss weighs.

    Args:
        network: what trains; of it, a quantiser of F0 with codes of its own is frozen.
        discriminator: ``modules.discriminators.Discriminators`` or its like; None trains with the mel loss alone.
        optimizer: makes the optimizers of both.
        mel: the distance of log-mel spectrograms.
        mel_weight, adversarial_weight, feature_weight, commit_weight: as above.
        f0_normalize, f0_median: what becomes of a contour.
        speakers: names, in the order of their ids; kept in the checkpoint.
        public: what ``config.json`` says of an export.

    Raises:
        ValueError: more speakers than the table has rows.
    """

    def __init__(
        self,
        *,
        network: ResynthesisNetwork,
        discriminator: nn.Module | None,
        optimizer: Callable[..., torch.optim.Optimizer],
        mel: MelDistance,
        mel_weight: float = 45.0,
        adversarial_weight: float = 1.0,
        feature_weight: float = 2.0,
        commit_weight: float = 0.02,
        f0_normalize: bool = True,
        f0_median: bool = False,
        speakers: Sequence[str] | None = None,
        public: PublicSettings,
    ):
        super().__init__()
        if speakers is not None and len(speakers) > network.spkr.num_embeddings:
            rows = network.spkr.num_embeddings
            raise ValueError(f"{len(speakers)} speakers need as many rows; speaker_rows is {rows}")
        self.network = network
        self.discriminator = discriminator
        self.make_optimizer = optimizer
        self.mel = mel
        self.mel_weight = mel_weight
        self.adversarial_weight = adversarial_weight
        self.feature_weight = feature_weight
        self.commit_weight = commit_weight
        self.f0_normalize = f0_normalize
        self.f0_median = f0_median
        self.speakers = None if speakers is None else list(speakers)
        self.public = public

    def train(self, mode: bool = True) -> VoiceVocoding:
        super().train(mode)
        if self.network.quantizer is not None:
            self.network.quantizer.eval()
        return self

    def networks(self) -> dict[str, nn.Module]:
        found = {VOCODER: self.network, "discriminator": self.discriminator}
        return {name: network for name, network in found.items() if network is not None}

    def codebooks(self) -> dict[str, EMACodebook]:
        found = {"units": self.network.code_codec, "f0": self.network.f0_codec}
        return {name: codec.vq for name, codec in found.items() if codec is not None}

    def settings(self) -> dict[str, Any]:
        named = {} if self.speakers is None else {"speakers": self.speakers}
        return {**named, "public": self.public.values}

    def initial_settings(self) -> dict[str, Any]:
        return {} if self.speakers is None else {"speakers": self.speakers}

    def adopt(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if any(name.startswith(f"{VOCODER}.") for name in tensors):
            return {name: x for name, x in tensors.items() if name.startswith(f"{VOCODER}.")}
        public = {n.removeprefix("generator."): x for n, x in tensors.items() if n.startswith("generator.")}
        return {f"{VOCODER}.{name}": x for name, x in network_tensors(self.network, public).items()}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        made = {VOCODER: self.make_optimizer([p for p in self.network.parameters() if p.requires_grad])}
        if self.discriminator is not None:
            made["discriminator"] = self.make_optimizer(self.discriminator.parameters())
        return made

    @torch.no_grad()
    def prepare(self, batches: Iterator[Batch], *, loaded: frozenset[str]) -> None:
        """Start the codebooks that are learned here.

        Raises:
            ValueError: the F0 quantiser has no weights.
        """
        if VOCODER in loaded:
            return
        quantizer = self.network.quantizer
        if quantizer is not None and not quantizer.vq.inited:
            raise ValueError(
                "f0_quantizer_path must be set: the F0 quantiser that config/resynthesis/f0_vqvae.yaml trains, its "
                "checkpoint or its export (or --init, with weights that hold one)"
            )
        if self.codebooks():
            batch = next(batches)
            if (codec := self.network.code_codec) is not None:
                codec.vq.start(codec.latents(batch["wav"]).flatten(0, 1))
            if (codec := self.network.f0_codec) is not None:
                codec.vq.start(codec.latents(self._contours(batch)).flatten(0, 1))

    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        real = batch["wav"].float()
        fake, commitment = self._speech(networks[VOCODER], batch)
        if self.discriminator is not None:
            # One pass for both halves: no layer looks across items, and weight norm is computed once.
            scores, _ = networks["discriminator"](torch.cat([real, fake.detach()])[:, None])
            halves = [score.chunk(2) for score in scores]
            loss = lsgan_discriminator_loss([real for real, _ in halves], [fake for _, fake in halves])
            yield Objective("discriminator", loss, {"loss_discriminator": loss.detach()})
        mel = self.mel(fake, real)
        loss, metrics = self.mel_weight * mel, {"mel": mel.detach()}
        if commitment is not None:
            loss = loss + self.commit_weight * commitment
            metrics["commit"] = commitment.detach()
        if self.discriminator is not None:
            adversarial, features = against_discriminators(
                self.discriminator, real, fake, loss=lsgan_generator_loss, summed=True
            )
            loss = loss + self.adversarial_weight * adversarial + self.feature_weight * features
            metrics |= {"adversarial": adversarial.detach(), "features": features.detach()}
        yield Objective(VOCODER, loss, {"loss": loss.detach(), **metrics})

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, int]]:
        items = len(batch["wav"])
        with torch.autocast(batch["wav"].device.type, enabled=False):
            fake, commitment = self._speech(self.network, batch)
            found = {"mel": (self.mel(fake, batch["wav"]) * items, items)}
        return found if commitment is None else {**found, "commit": (commitment * items, items)}

    @torch.no_grad()
    def media(self, batch: Batch) -> Media:
        """The first item, as it was and as it is put together again."""
        first = {name: value[:1] for name, value in batch.items()}
        with torch.autocast(batch["wav"].device.type, enabled=False):
            audio = {"real": first["wav"][0], "resynthesised": self._speech(self.network, first)[0][0]}
        return Media(audio=audio, images={name: spectrogram_image(wav) for name, wav in audio.items()})

    def export(self, folder: Path) -> list[Path]:
        """Write ``g_########``, ``config.json`` and, of a table of speakers, ``speakers.txt``, as public code reads."""
        files = write_generator(
            folder, public_state(self.network), step=self.steps_done, config=public_config(self.public.values)
        )
        if self.speakers is not None:
            write_text(folder / "speakers.txt", "".join(f"{name}\n" for name in self.speakers))
            files.append(folder / "speakers.txt")
        return files

    def _speech(self, network: Callable[..., Any], batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
        has_f0 = self.network.f0_mode != "none"
        return network(
            units=batch.get("units"),
            wav=batch["wav"],
            f0=self._contours(batch) if has_f0 else None,
            speaker=batch.get("speaker"),
            f0_stats=batch["f0_stats"] if self.network.f0_feats else None,
            places=batch["index"],
        )

    def _contours(self, batch: Batch) -> torch.Tensor:
        return prepared_contours(batch, normalized=self.f0_normalize, median=self.f0_median)


def prepared_contours(batch: Batch, *, normalized: bool, median: bool) -> torch.Tensor:
    """``f0`` [B, M] of a batch as a network takes it."""
    f0 = batch["f0"].float()
    if not normalized:
        return f0
    mean, std = batch["f0_stats"].float()[:, :1], batch["f0_stats"].float()[:, 1:]
    return normalise(f0, mean, std, median=batch["f0_median"].float()[:, None] if median else None)
