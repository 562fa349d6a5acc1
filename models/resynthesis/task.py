"""How the vocoder of speech resynthesis trains, with the F0 quantiser frozen inside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.resynthesis.contour_task import CodebookTask, prepared_contours
from models.resynthesis.files import VOCODER, network_tensors, public_state, write_generator
from models.resynthesis.network import ResynthesisNetwork
from models.resynthesis.public_config import PublicSettings, public_config
from modules.adversarial import against_discriminators
from modules.ema_codebook import EMACodebook
from modules.losses import lsgan_discriminator_loss, lsgan_generator_loss
from modules.mel import MelDistance
from modules.spectral import spectrogram_image
from utils.errors import first_few
from utils.files import write_text
from utils.task import Batch, Media, Networks, Objective

log = logging.getLogger(__name__)


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
        speakers: names, in the order of the ids in batches. The rows of the table have the order of the checkpoint
            that the training continues or begins from, and its names come first.
        read_names: reads the names of a public file's rows, a line each.
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
        read_names: Callable[[Path], list[str]],
        public: PublicSettings,
    ):
        super().__init__()
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
        self.heard = None if speakers is None else list(speakers)
        self.read_names = read_names
        self.public = public
        self.register_buffer("rows", None, persistent=False)
        self.known = 0  # rows that have weights from a checkpoint
        self._name_rows(self.heard)

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
        return {}

    def adopt_settings(self, settings: Mapping[str, Any], source: Path) -> None:
        """Speakers keep the rows that they have in a checkpoint; those that are not in it come behind.

        A public file does not hold its names: they are read of speakers.txt beside it.
        """
        if self.heard is None:
            return
        if (known := settings.get("speakers")) is None:
            beside = source.parent / "speakers.txt"
            if not beside.is_file():
                raise ValueError(
                    f"{source} does not say whose the rows of its table are: put their names, a line each, into "
                    f"{beside} (python -m data.prepare.units writes it for the manifest that it was trained on)"
                )
            known = self.read_names(beside)
        known = [str(name) for name in known]
        new = [name for name in self.heard if name not in known]
        self.known = len(known)
        self._name_rows([*known, *new])
        if new:
            log.info("%d speakers keep their rows; new, with initial ones: %s", len(known), first_few(new))

    def adopt(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if any(name.startswith(f"{VOCODER}.") for name in tensors):
            found = {name: x for name, x in tensors.items() if name.startswith(f"{VOCODER}.")}
        else:
            public = {n.removeprefix("generator."): x for n, x in tensors.items() if n.startswith("generator.")}
            found = {f"{VOCODER}.{name}": x for name, x in network_tensors(self.network, public).items()}
        table = f"{VOCODER}.spkr.weight"
        if self.heard is not None and table in found:
            if len(found[table]) < self.known:
                raise ValueError(f"{self.known} speakers are named, and its table has {len(found[table])} rows")
            rows = self.network.spkr.weight.detach().cpu().clone()
            if found[table].shape[1:] == rows.shape[1:]:
                rows[: self.known] = found[table][: self.known].to(rows)
                found[table] = rows
        return found

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
            speaker=self._voices(batch),
            f0_stats=batch["f0_stats"] if self.network.f0_feats else None,
            places=batch["index"],
        )

    def _contours(self, batch: Batch) -> torch.Tensor:
        return prepared_contours(batch, normalized=self.f0_normalize, median=self.f0_median)

    def _voices(self, batch: Batch) -> torch.Tensor | None:
        """Rows of the table, or vectors."""
        return batch.get("speaker") if self.rows is None else self.rows[batch["speaker"]]

    def _name_rows(self, names: list[str] | None) -> None:
        """Say whose the rows of the table are.

        Raises:
            ValueError: there are fewer.
        """
        self.speakers = names
        if names is None:
            return
        if len(names) > (rows := self.network.spkr.num_embeddings):
            raise ValueError(f"{len(names)} speakers need as many rows; speaker_rows is {rows}")
        places = {name: row for row, name in enumerate(names)}
        self.rows = torch.tensor([places[name] for name in self.heard], device=self.network.spkr.weight.device)
