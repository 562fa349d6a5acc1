"""How LiMuSE trains: SI-SDR, in full precision and then with few bits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.limuse import packing
from models.limuse.files import NETWORK, released_state
from models.limuse.network import LiMuSE, stage_temperature
from models.limuse.quantiser import starts
from models.limuse.speaker_encoders import FILES
from models.limuse.windows import FACE_HOP
from modules.frames import length_mask
from modules.si_sdr import si_sdr
from modules.spectral import spectrogram_image
from utils.task import Batch, Media, Networks, Objective, Task

PACKED = "limuse.safetensors"
SAMPLE_RATE = 16000
_RELEASED = "model_state_dict."
log = logging.getLogger(__name__)


class Extraction(Task):
    """Minus the mean SI-SDR, over items whose target sounds.

    A batch holds ``mixture`` [B, C, T], ``target`` [B, T], ``length`` [B], the samples of each row that are no padding,
    ``sounding`` [B], False where the target is silent and so has no SI-SDR, and the cues in use, ``voiceprint`` [B, D]
    and ``visual`` [B, V, visual_dim].

    A quantised network that starts from one in full precision takes alpha, beta and thresholds from its weights.

    Args:
        network: what trains.
        optimizer: makes the optimizer of groups of parameters.
        voiceprints: where they come from, kept in the checkpoint, see ``models.limuse.speaker_encoders.origin_of``.
        temperature: of the soft steps of quantised weights in the first epoch; it grows with the epochs.
        thresholds: how they are set at the start, ``kmeans`` or ``uniform``.
        thresholds_path: of a released quantised checkpoint that is trained further; None: ``bias.npy`` beside it.
        encoder_bias: False: the encoder's bias stays what it is, 0 at the start, so that the level of a recording
            changes nothing but that of the output.
        offset_weight: of the squared mean of an output over its mean square, which SI-SDR is blind to; 0: as published.
    """

    def __init__(
        self,
        *,
        network: LiMuSE,
        optimizer: Callable[..., torch.optim.Optimizer],
        voiceprints: str = FILES,
        temperature: float = 5.0,
        thresholds: str = "kmeans",
        thresholds_path: Path | None = None,
        encoder_bias: bool = True,
        offset_weight: float = 0.0,
    ):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if offset_weight < 0:
            raise ValueError(f"offset_weight must not be below 0, got {offset_weight}")
        starts([], 3, thresholds)  # refuses what is no such way
        self.network = network
        self.make_optimizer = optimizer
        self.voiceprints = voiceprints
        self.temperature = temperature
        self.thresholds = thresholds
        self.thresholds_path = thresholds_path
        self.offset_weight = offset_weight
        network.encoder.bias.requires_grad_(encoder_bias)
        self._source = Path()

    def networks(self) -> dict[str, nn.Module]:
        return {NETWORK: self.network}

    def settings(self) -> dict[str, Any]:
        bits = {"activation_bits": self.network.activation_bits}
        return self.initial_settings() | {"weight_bits": self.network.weight_bits} | bits

    def initial_settings(self) -> dict[str, Any]:
        """What both stages share."""
        facts = {key: value for key, value in self.network.facts().items() if key != "weight_bits"}
        return facts | ({"voiceprints": self.voiceprints} if "voiceprint" in self.network.cues else {})

    def adopt_settings(self, settings: Mapping[str, Any], source: Path) -> None:
        self._source = source

    def adopt(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Of this project or released; of full precision for a quantised network with its first scales."""
        if any(name.startswith(_RELEASED) for name in tensors):
            tensors = self._released(tensors)
        is_quantised = f"{NETWORK}.quantiser.alpha" in tensors
        if is_quantised and not self.network.quantised:
            raise ValueError("it is quantised, and cannot begin a training in full precision")
        names = [f"{NETWORK}.{name}" for name in self.network.quantised_layers()]
        if self.network.quantised and not is_quantised and all(name in tensors for name in names):
            found = starts([tensors[name] for name in names], self.network.weight_bits, self.thresholds)
            stacked = (torch.stack(values) for values in zip(*found, strict=True))
            tensors = tensors | dict(zip(_QUANTISER, stacked, strict=True))
            log.info("quantised to %d bits: alpha, beta and thresholds follow from the weights of %s",
                     self.network.weight_bits, self._source)  # fmt: skip
        return tensors

    def prepare(self, batches: Iterator[Batch], *, loaded: frozenset[str]) -> None:
        """A quantised network that starts from nothing gets scales that follow from its weights."""
        if NETWORK not in loaded and self.network.quantised:
            self.network.quantiser.start(self.network.quantised_weights(), self.thresholds)

    def begin_epoch(self, epoch: int) -> None:
        self.network.temperature = stage_temperature(self.temperature, epoch)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        named = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        scales = [p for name, p in named if name.startswith("quantiser.")]
        groups = [{"params": [p for name, p in named if not name.startswith("quantiser.")]}]
        groups += [{"params": scales, "weight_decay": 0.0}] if scales else []
        return {NETWORK: self.make_optimizer(groups)}

    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        made = networks[NETWORK](*self._inputs(batch))
        ratios = si_sdr(made, batch["target"], batch["length"])
        sounding = batch["sounding"]
        loss, count = -ratios.masked_fill(~sounding, 0.0).sum(), sounding.sum()
        metrics = {"loss": (loss.detach(), count), "silent": (100.0 * (~sounding).sum(), len(sounding))}
        if self.offset_weight:
            offsets = _offsets(made, batch["length"]).masked_fill(~sounding, 0.0).sum()
            metrics["offset"] = (offsets.detach(), count)
            loss = loss + self.offset_weight * offsets
        yield Objective(NETWORK, loss, metrics, count)

    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, int]]:
        """SI-SDR, what it gained over the first channel, and the share of silent targets, in percent.

        Rows are computed at their own lengths, so that no zeros of a longer one are heard.
        """
        ratio, gain, count = 0.0, 0.0, 0
        rounds = self.network.activation_bits is not None
        for rows in _alike(batch["length"].tolist(), apart=rounds):
            kept = [row for row in rows if bool(batch["sounding"][row])]
            if not kept:
                continue
            samples = int(batch["length"][kept[0]])
            part = {key: value[kept] for key, value in batch.items()}
            mixture, target = part["mixture"][..., :samples], part["target"][:, :samples]
            if "visual" in part:
                part["visual"] = part["visual"][:, : -(-samples // FACE_HOP)]
            found = si_sdr(self.network(*self._inputs({**part, "mixture": mixture})), target).double()
            ratio, count = ratio + found.sum(), count + len(kept)
            gain = gain + (found - si_sdr(mixture[:, 0], target)).sum()
        zero = torch.zeros((), dtype=torch.float64, device=batch["target"].device)
        silent = 100.0 * (~batch["sounding"]).sum()
        return {
            "loss": (zero - ratio, count),
            "si_sdr": (zero + ratio, count),
            "si_sdri": (zero + gain, count),
            "silent": (silent, len(batch["sounding"])),
        }

    def warnings(self, values: Mapping[str, float]) -> list[str]:
        if not values.get("silent"):
            return []
        return [f"{values['silent']:.3g} % of the validation's targets are silent: they are left out of all means"]

    @torch.no_grad()
    def media(self, batch: Batch) -> Media:
        """The first item: mixture, target and output, at unit peak where it is louder."""
        first = {key: value[:1] for key, value in batch.items()}
        samples = int(first["length"][0])
        made = self.network(*self._inputs(first))[0, :samples].float()
        audio = {
            "mixture": first["mixture"][0, 0, :samples],
            "target": first["target"][0, :samples],
            "extracted": made / made.abs().max().clamp(min=1.0),
        }
        if samples < SAMPLE_RATE:  # too short to be looked at
            return Media(audio=audio, sample_rate=SAMPLE_RATE)
        images = {name: spectrogram_image(wav) for name, wav in audio.items()}
        return Media(audio=audio, images=images, sample_rate=SAMPLE_RATE)

    def export(self, folder: Path) -> list[Path]:
        """The packed model."""
        return [packing.write(Path(folder) / PACKED, self.network, self.settings())]

    def _inputs(self, batch: Batch) -> tuple[torch.Tensor | None, ...]:
        return batch["mixture"], batch.get("voiceprint"), batch.get("visual")

    def _released(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors of a released checkpoint by our names."""
        content: dict[str, Any] = {
            name: [tensors[key] for i in range(len(tensors)) if (key := f"{name}.{i}") in tensors]
            for name in ("alpha", "beta")
        }
        content["model_state_dict"] = {
            n.removeprefix(_RELEASED): x for n, x in tensors.items() if n.startswith(_RELEASED)
        }
        found = released_state(content, self._source, thresholds_path=self.thresholds_path, steps=self.network.steps)
        return {f"{NETWORK}.{name}": value for name, value in found.items()}


_QUANTISER = tuple(f"{NETWORK}.quantiser.{name}" for name in ("alpha", "beta", "thresholds"))


def _offsets(made: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The squared mean of each row over its mean square, [B]."""
    rows = made.float().masked_fill(~length_mask(lengths, made.shape[1]), 0.0)
    mean = rows.sum(dim=1) / lengths
    return mean.square() / (rows.square().sum(dim=1) / lengths + 1e-12)


def _alike(lengths: list[int], *, apart: bool) -> list[list[int]]:
    """Rows of one length; or each by itself, where what is computed beside a row changes how values are rounded."""
    if apart:
        return [[row] for row in range(len(lengths))]
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        groups.setdefault(length, []).append(row)
    return list(groups.values())
