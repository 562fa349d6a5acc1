"""How the codec trains (arXiv 2308.16692): reconstruction, a teacher for the first codebook, and discriminators."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from models.speechtokenizer.files import NETWORK, adopted_state, write_released
from models.speechtokenizer.losses import Distillation, Reconstruction, weighted
from models.speechtokenizer.network import CodecNetwork, Coded
from models.speechtokenizer.teacher import Teacher
from modules.adversarial import against_discriminators
from modules.codebook_use import CodeUse
from modules.frames import length_mask
from modules.losses import (
    hinge_discriminator_loss,
    hinge_generator_loss,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
)
from modules.spectral import spectrogram_image
from modules.unit_start import start_at_unit_variance
from utils.task import Batch, Media, Networks, Objective, Task

log = logging.getLogger(__name__)

# discriminator's loss, generator's loss
ADVERSARIAL: Mapping[str, tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]] = {
    "lsgan": (lsgan_discriminator_loss, lsgan_generator_loss),
    "hinge": (hinge_discriminator_loss, hinge_generator_loss),
}
START_FRAMES = 8  # frames a code that the codebooks start from, where there are so many
ROWS = 4  # that are encoded at a time for it
START_ROWS = 16  # crops that the layers are scaled on
POOR_USE = 10.0  # % of a codebook's codes
POOR_DISTILL = 0.60  # a mean cosine of 0.2; 0.31 is perfect, 0.69 has learned nothing


class SpeechCoding(Task):
    """Training of a codec whose first codebook learns from a teacher.

    The discriminators step first, on real speech and what the codec makes of it, then the codec, on the same output:

        reconstruction + commitment_weight * commitment + distill_weight * distillation
            + adversarial_weight * adversarial + feature_weight * feature matching (the sum over all layers)

    The codebooks have no gradient: they follow their latents after each step that was taken.

    A batch holds ``wav`` [B, T], ``length`` [B], the samples of each row that are no padding, and ``index`` [B], each
    item's place in its epoch; and it may hold ``features`` [B, n, S], of which ``frames`` [B] are real, which then
    stand for the teacher.

    Args:
        codec: what trains.
        reconstruction, distillation: their losses.
        teacher: hears the crops where the batch has no features; None if it always has, or without distillation.
        teacher_facts: what the features are, kept in the checkpoint: training goes on with the same.
        discriminator: ``modules.discriminators.Discriminators``, or anything that gives scores and layers' outputs;
            None trains without. It is left out too if both of its weights are 0.
        codec_optimizer, discriminator_optimizer: make the optimizers of their parameters.
        commitment_weight, distill_weight, adversarial_weight, feature_weight: as above.
        adversarial: ``lsgan`` or ``hinge``.
        discriminator_start: the first step with the discriminators.
        decoder_only: train the decoder of a codec that is trained: encoder, transform and codebooks stay as they are,
            and with them the tokens of any speech. Commitment and distillation, which the decoder takes no part in,
            are left out.
        init_discriminator: take the discriminators from the file of ``--init`` too, if it has some.
        recompute: compute the codec's output again for its half of a step, instead of keeping what its gradient needs
            of all micro-batches while the discriminators step: more time, less memory.
        unit_start: a training from nothing begins with layers that are scaled on its first batch, see
            ``modules.unit_start``: it learns in hundreds of steps what takes thousands otherwise.
        steps: of the whole training; warnings about its success begin at half of them.

    Raises:
        ValueError: there is no such ``adversarial``, or parts that do not fit together.
    """

    leaves_unused = True  # transform without a teacher, the decoder's without its losses, the discriminators at first

    def __init__(
        self,
        *,
        codec: CodecNetwork,
        reconstruction: Reconstruction,
        distillation: Distillation,
        teacher: Teacher | None,
        teacher_facts: Mapping[str, Any] | None = None,
        discriminator: nn.Module | None,
        codec_optimizer: Callable[..., torch.optim.Optimizer],
        discriminator_optimizer: Callable[..., torch.optim.Optimizer],
        commitment_weight: float = 10.0,
        distill_weight: float = 120.0,
        adversarial: str = "lsgan",
        adversarial_weight: float = 1.0,
        feature_weight: float = 2.0,
        discriminator_start: int = 0,
        decoder_only: bool = False,
        init_discriminator: bool = False,
        recompute: bool = False,
        unit_start: bool = False,
        steps: int,
    ):
        super().__init__()
        if adversarial not in ADVERSARIAL:
            raise ValueError(f"adversarial must be one of {', '.join(ADVERSARIAL)}, got {adversarial!r}")
        self.codec = codec
        self.reconstruction = reconstruction
        self.distillation = distillation if distill_weight and not decoder_only else None
        self.teacher = teacher if self.distillation is not None else None
        self.teacher_facts = dict(teacher_facts or {})
        self.discriminator = discriminator if adversarial_weight or feature_weight else None
        self.make_codec_optimizer = codec_optimizer
        self.make_discriminator_optimizer = discriminator_optimizer
        self.commitment_weight = commitment_weight
        self.distill_weight = distill_weight
        self.discriminator_loss, self.generator_loss = ADVERSARIAL[adversarial]
        self.adversarial_weight = adversarial_weight
        self.feature_weight = feature_weight
        self.discriminator_start = discriminator_start
        self.decoder_only = decoder_only
        self.init_discriminator = init_discriminator
        self.recompute = recompute
        self.unit_start = unit_start
        self.late = steps // 2
        self.step = 0
        sizes = codec.architecture
        self.hop_length = sizes.hop_length
        self.use = CodeUse([f"rvq_{k + 1}" for k in range(sizes.n_q)], sizes.codebook_size)
        if decoder_only:
            codec.requires_grad_(False)
            codec.decoder.requires_grad_(True)

    def train(self, mode: bool = True) -> SpeechCoding:
        super().train(mode)
        if self.decoder_only:  # a quantiser in eval mode keeps its codes
            self.codec.eval()
            self.codec.decoder.train(mode)
        return self

    # -- what the loop asks --------------------------------------------------------------------------------------------

    def networks(self) -> dict[str, nn.Module]:
        found = {NETWORK: self.codec, "discriminator": self.discriminator}
        return {name: network for name, network in found.items() if network is not None}

    def settings(self) -> dict[str, Any]:
        facts = self.teacher_facts if self.distillation is not None else {}
        return {**self.initial_settings(), **facts}

    def initial_settings(self) -> dict[str, Any]:
        """Another teacher may go on with what one began, the sizes cannot differ."""
        sizes = asdict(self.codec.architecture)
        return {"architecture": {name: list(x) if isinstance(x, tuple) else x for name, x in sizes.items()}}

    def adopt(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if not any(name.startswith(f"{NETWORK}.") for name in tensors):
            tensors = adopted_state(tensors, self.codec)
        kept = (f"{NETWORK}.", "discriminator.") if self.init_discriminator else (f"{NETWORK}.",)
        return {name: x for name, x in tensors.items() if name.startswith(kept)}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        made = {NETWORK: self.make_codec_optimizer([p for p in self.codec.parameters() if p.requires_grad])}
        if self.discriminator is not None:
            made["discriminator"] = self.make_discriminator_optimizer(self.discriminator.parameters())
        return made

    def prepare(self, batches: Iterator[Batch], *, loaded: frozenset[str]) -> None:
        """Start the codebooks, if they are not loaded, on k-means of what the encoder makes of the first batches.

        Raises:
            ValueError: there are no weights whose decoder could be trained alone.
        """
        if NETWORK not in loaded:
            if self.decoder_only:
                raise ValueError("decoder_only trains the decoder of a codec that is trained: name it with --init")
            first = next(batches)
            if self.unit_start:
                self._start_at_unit_variance(first["wav"][:START_ROWS].float())
            self.codec.quantizer.start(self._first_latents(itertools.chain([first], batches)))
        elif self.discriminator is not None and "discriminator" not in loaded and self.discriminator_start == 0:
            log.info(
                "fresh discriminators beside a trained codec: what they ask for in their first steps can harm it; "
                "discriminator_start lets the codec alone at first, init_discriminator takes them from the file"
            )

    def begin_step(self, step: int) -> None:
        self.step = step

    def end_step(self, sum_over_processes: Callable[[torch.Tensor], torch.Tensor]) -> None:
        if self.decoder_only:
            return
        gradients = [p.grad for p in self.codec.parameters() if p.grad is not None]
        taken = nn.utils.get_total_norm(gradients).isfinite()  # a step whose gradient is not is not taken
        counts = self.codec.quantizer.update(seed=self.step, sum_over_processes=sum_over_processes, taken=taken)
        self.use.add(counts)

    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        real = batch["wav"].float()
        is_adversarial = self.discriminator is not None and self.step >= self.discriminator_start
        coded = None if is_adversarial and self.recompute else networks[NETWORK](real, batch["index"])
        if is_adversarial:
            fake = self._fake(real) if coded is None else coded.wav.detach()
            loss = self._discriminators_loss(networks["discriminator"], real, fake)
            yield Objective("discriminator", loss, {"loss_discriminator": loss.detach()})
            del fake, loss
        if coded is None:
            coded = networks[NETWORK](real, batch["index"])
        loss, metrics = self.reconstruction(coded.wav, real)
        if not self.decoder_only:
            learned, others = self._latent_losses(batch, coded)
            loss, metrics = loss + learned, metrics | others | self.use.metrics()
        if is_adversarial:
            adversarial, features = against_discriminators(
                self.discriminator, real, coded.wav, loss=self.generator_loss, summed=True
            )
            loss = loss + weighted((self.adversarial_weight, adversarial), (self.feature_weight, features))
            metrics |= {"adversarial": adversarial.detach(), "features": features.detach()}
        yield Objective(NETWORK, loss, {"loss": loss.detach(), **metrics})

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, int]]:
        """``l1``, ``mel``, ``commitment``, ``distill`` and ``cosine``, each row as it is alone, in float32."""
        found: dict[str, tuple[torch.Tensor, int]] = {}
        lengths = batch["length"]
        with torch.autocast(batch["wav"].device.type, enabled=False):
            for length in sorted(set(lengths.tolist())):
                rows = {name: x[lengths == length] for name, x in batch.items()}
                rows["wav"] = rows["wav"][:, :length].float()
                count = len(rows["wav"])
                for name, mean in self._evaluate_alike(rows).items():
                    total, others = found.get(name, (0, 0))
                    found[name] = total + mean * count, others + count
        items = len(lengths)
        return found | {name: (x * items, items) for name, (x, known) in self.use.metrics().items() if known}

    def warnings(self, values: Mapping[str, float]) -> list[str]:
        if self.step < self.late:
            return []
        poor = [name for name in self.use.names if values.get(f"usage_{name}", 100.0) < POOR_USE]
        told = []
        if poor:
            told.append(
                f"of the codes of {', '.join(poor)} less than {POOR_USE:g} % are used, and the training is more than "
                "half done: more of them would be with a larger dead_code_share, a smaller codebook_size or more data"
            )
        if values.get("distill", 0.0) > POOR_DISTILL and self.distillation.axis == "d_axis":
            told.append(
                f"distill is still above {POOR_DISTILL:g} (a mean cosine below about 0.2), and the training is more "
                "than half done: the first codebook hardly learns its teacher. A larger distill_weight, more steps, or "
                "features that do not belong to the speech are what to look at"
            )
        return told

    @torch.no_grad()
    def media(self, batch: Batch) -> Media:
        """The first item, as it was and through the codec."""
        real = batch["wav"][:1, : int(batch["length"][0])].float()
        with torch.autocast(real.device.type, enabled=False):
            audio = {"real": real[0], "resynthesised": self.codec(real).wav[0, : real.shape[1]]}
        images = {name: spectrogram_image(wav) for name, wav in audio.items()}
        return Media(audio=audio, images=images, sample_rate=self.codec.architecture.sample_rate)

    def export(self, folder: Path) -> list[Path]:
        """Write ``config.json`` and ``SpeechTokenizer.pt``, which the public code loads too."""
        return write_released(folder, self.codec)

    # -- losses --------------------------------------------------------------------------------------------------------

    def _latent_losses(self, batch: Batch, coded: Coded) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Commitment and distillation: weighted, and by their names without weights."""
        terms = [(self.commitment_weight, coded.commitment)]
        metrics = {"commitment": coded.commitment.detach()}
        if self.distillation is not None:
            frames = -(-batch["length"] // self.hop_length)
            if "features" in batch:
                features, frames = batch["features"], torch.minimum(frames, batch["frames"])
            else:
                features = self.teacher(batch["wav"], batch["length"])
            distill, cosine = self.distillation(coded.semantic, features, frames)
            terms.append((self.distill_weight, distill))
            metrics |= {"distill": distill.detach(), "cosine": cosine}
        return weighted(*terms), metrics

    @torch.no_grad()
    def _fake(self, real: torch.Tensor) -> torch.Tensor:
        """What the codec makes of it, without a graph, and without the codebooks taking it in."""
        self.codec.quantizer.eval()
        wav = self.codec(real).wav
        self.codec.quantizer.train(self.codec.training)
        return wav

    def _discriminators_loss(self, discriminator: Callable, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        # One pass for both halves: no layer looks across items, and weight norm is computed once.
        scores, _ = discriminator(torch.cat([real, fake])[:, None])
        halves = [score.chunk(2) for score in scores]
        return self.discriminator_loss([r for r, _ in halves], [f for _, f in halves])

    def _evaluate_alike(self, rows: Batch) -> dict[str, torch.Tensor]:
        """Means over rows of one length."""
        wav = rows["wav"]
        coded = self.codec(wav)
        too_short = max(self.reconstruction.shortest - wav.shape[1], 0)
        output, target = (F.pad(x[:, : wav.shape[1]], (0, too_short)) for x in (coded.wav, wav))
        _, metrics = self.reconstruction(output, target)
        return metrics | self._latent_losses(rows, coded)[1]

    # -- codebooks -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _start_at_unit_variance(self, wav: torch.Tensor) -> None:
        codec = self.codec.eval()
        level = {codec.decoder.layers[-1]: float(wav.std())}  # what comes out is as loud as what goes in
        start_at_unit_variance(codec, lambda: codec.decode(codec.encode(wav)), deviations=level)

    @torch.no_grad()
    def _first_latents(self, batches: Iterator[Batch]) -> torch.Tensor:
        """[n, D]: frames of two batches at least, and ``START_FRAMES`` a code if there are so many."""
        self.codec.eval()
        found: list[torch.Tensor] = []
        wanted = START_FRAMES * self.codec.quantizer.vocab_size
        for number, batch in enumerate(batches):
            if number >= 2 and sum(map(len, found)) >= wanted:
                break
            for wav, length in zip(batch["wav"].split(ROWS), batch["length"].split(ROWS), strict=True):
                latents = self.codec.encode(wav.float())
                found.append(latents[length_mask(-(-length // self.hop_length), latents.shape[1])])
        return torch.cat(found)
