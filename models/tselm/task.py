"""How TSELM trains: a classifier over the tokens of the clean target."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from models.interfaces import Vocoder, require_same_format
from models.tselm.front_end import FrontEnd, require_network_fits
from models.tselm.network import TSELM
from models.tselm.presence import PresenceHead, require_threshold
from modules.losses import cross_entropy_of_items, token_cross_entropy, wrong_tokens
from modules.spectral import spectrogram_image
from utils.array_cache import ArrayCache
from utils.precision import AUTO, resolve_precision
from utils.task import Batch, Media, Networks, Objective, Task

ROLES = ("mixture", "enrolment", "target")
# Of what a token cache holds. To be raised when this code comes to make other tokens with the same weights.
TOKENS_VERSION = 1


class TokenPrediction(Task):
    """Cross-entropy against the target's tokens; the error is the percentage of wrong positions.

    Validation also tells ``copy_error``, the error of answering with the mixture's own tokens: what a network must
    beat before it has learnt anything about talkers.

    A batch holds ``mixture`` [B, T], ``target`` [B, T] and ``enrolment`` [B, R]; in validation also ``key`` [B], which
    stands for an item's samples; and where talkers can be absent, ``present`` [B], truth values.

    With a ``presence`` head, the binary cross-entropy of its logits is added. An item without its talker has no tokens
    to learn: it counts in that alone. Taught to answer such items with the tokens of silence, the network would have a
    second way to say no, without a threshold, and frame by frame, where it is in doubt of a talker who is there; the
    extractor makes the silence. Token metrics are of the present alone; of both, validation tells ``presence_loss``,
    and in percent ``absent_found``, of the absent, and ``present_silenced``, of the present.

    Args:
        network: what trains.
        front_end: with the frozen tokenizer.
        optimizer: makes the optimizer of the network's parameters.
        vocoder: if given, examples of every validation are decoded for the log.
        centroid_embeddings: the network's embeddings begin as the tokens' centroids (``embedding_dim`` must be theirs);
            False: at random, as published.
        token_cache: folder that keeps the tokens of validation items for other runs and processes; None keeps them in
            memory only, for this run.
        presence: the head that tells whether the talker is there, if it is to be trained.
        presence_weight: of its loss.
        presence_threshold: a score below it counts as absent in validation.

    Raises:
        ValueError: the parts do not fit together, or nothing can be written into ``token_cache``.
    """

    def __init__(
        self,
        *,
        network: TSELM,
        front_end: FrontEnd,
        optimizer: Callable[..., torch.optim.Optimizer],
        vocoder: Vocoder | None = None,
        centroid_embeddings: bool = False,
        token_cache: str | os.PathLike | None = None,
        presence: PresenceHead | None = None,
        presence_weight: float = 1.0,
        presence_threshold: float = 0.5,
    ):
        super().__init__()
        require_network_fits(network, front_end)
        if vocoder is not None:
            require_same_format(front_end.tokenizer, vocoder)
        if centroid_embeddings:
            network.embed_as(front_end.tokenizer.quantizer.centroids)
        if presence_weight < 0:
            raise ValueError(f"presence_weight must not be negative, got {presence_weight}")
        require_threshold(presence_threshold)
        self.network = network
        self.presence = presence
        self.presence_weight = presence_weight
        self.presence_threshold = presence_threshold
        self.tokenizer = front_end.tokenizer
        self.vocoder = vocoder
        self.front_end = front_end
        self.make_optimizer = optimizer
        self._tokens: dict[int, torch.Tensor] = {}  # of validation items, by key: those of all ROLES, [2 N + M, K]
        self._cache = None if token_cache is None else _open_cache(token_cache, front_end)

    def networks(self) -> dict[str, nn.Module]:
        return {"network": self.network} | ({} if self.presence is None else {"presence": self.presence})

    def frozen(self) -> dict[str, nn.Module]:
        return {"tokenizer": self.tokenizer}

    def settings(self) -> dict[str, object]:
        return self.front_end.settings()

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        trained = [p for network in self.networks().values() for p in network.parameters()]
        return {"network": self.make_optimizer(trained)}

    def objectives(self, batch: Batch, networks: Networks) -> Iterator[Objective]:
        if (self.presence is not None) != ("present" in batch):
            raise ValueError(
                "absent_share and presence go together: without mixtures that lack their talker, presence learns to "
                "say yes; and without presence, nothing can be learned from them"
            )
        inputs, target = self._encode(batch)
        if self.presence is None:
            logits = networks["network"](*inputs)
            loss = token_cross_entropy(logits, target)
            error = 100 * wrong_tokens(logits.argmax(dim=-1), target).sum() / target.numel()
            yield Objective("network", loss, {"loss": loss.detach(), "error": error})
            return
        sequence = networks["network"].sequence(*inputs)
        logits, present = networks["network"].logits(sequence), batch["present"]
        # Sums over the items, so that it does not matter which micro-batch has how many present ones.
        tokens = (cross_entropy_of_items(logits, target) * present).sum()
        there = _presence_loss(networks["presence"](sequence), present).sum()
        wrong = (logits.argmax(dim=-1) != target).flatten(1).sum(dim=1).double()
        positions = present.sum() * target[0].numel()
        metrics = {
            "loss": (tokens.detach(), present.sum()),
            "error": (100 * (wrong * present).sum(), positions),
            "presence_loss": (there.detach(), len(present)),
        }
        yield Objective("network", tokens + self.presence_weight * there, metrics, count=len(present))

    def evaluate(self, batch: Batch) -> dict[str, tuple[torch.Tensor, int]]:
        inputs, target = self._recall(batch)
        if self.presence is None:
            return self._token_metrics(self.network(*inputs), target, inputs[0])
        sequence = self.network.sequence(*inputs)
        said = self.presence(sequence)
        present = batch.get("present", torch.ones_like(said, dtype=torch.bool))
        metrics = {"presence_loss": (_presence_loss(said, present).sum(), len(present))}
        silenced = 100.0 * (said.sigmoid() < self.presence_threshold)
        for name, rows in (("absent_found", ~present), ("present_silenced", present)):
            if count := int(rows.sum()):
                metrics[name] = (silenced[rows].sum(), count)
        if bool(present.any()):
            logits = self.network.logits(sequence[present])
            metrics = self._token_metrics(logits, target[present], inputs[0][present]) | metrics
        return metrics

    def _token_metrics(
        self, logits: torch.Tensor, target: torch.Tensor, mixture: torch.Tensor
    ) -> dict[str, tuple[torch.Tensor, int]]:
        wrong = 100 * wrong_tokens(logits.argmax(dim=-1), target)
        positions = target[..., 0].numel()
        copied = self.front_end.tokens(mixture)
        metrics = {
            "loss": (token_cross_entropy(logits, target) * target.numel(), target.numel()),
            "error": (wrong.sum(), target.numel()),
            "copy_error": (100 * wrong_tokens(copied, target).sum(), target.numel()),
        }
        for name, count in zip(self.tokenizer.codebook_names, wrong, strict=True):
            metrics[f"error_{name}"] = (count, positions)
        return metrics

    @torch.no_grad()
    def media(self, batch: Batch) -> Media:
        """The first item: mixture, enrolment, target, and the target's and the predicted tokens decoded."""
        if self.vocoder is None:
            return Media()
        first = {name: value[:1] for name, value in batch.items()}
        inputs, target = self._encode(first)
        audio = {name: first[name][0] for name in ("mixture", "target", "enrolment")}
        audio["target_decoded"] = self.vocoder.decode(target)[0]
        audio["extracted"] = self.vocoder.decode(self.network(*inputs).argmax(dim=-1))[0]
        images = {name: spectrogram_image(wav) for name, wav in audio.items()}
        return Media(audio=audio, images=images, sample_rate=self.tokenizer.sample_rate)

    def _recall(self, batch: Batch) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        """As ``_encode``, for items that come again: their tokens are kept under their ``key``.

        The tokenizer is frozen, so they are the same in every epoch. Continuous features would be too many to keep.
        """
        if "key" not in batch or self.front_end.mix_continuous:
            return self._encode(batch)
        keys, device = batch["key"].tolist(), batch["mixture"].device
        frames = [self.front_end.grid.frames(batch[role].shape[-1]) for role in ROLES]
        if self._cache is not None:
            for key in set(keys) - self._tokens.keys():
                found = self._cache.read(
                    _name(key, device, self.tokenizer.precision), (sum(frames), self.tokenizer.num_codebooks)
                )
                if found is not None:
                    self._tokens[key] = torch.from_numpy(found)
        if rows := [row for row, key in enumerate(keys) if key not in self._tokens]:
            (mixture, enrolment), target = self._encode({role: batch[role][rows] for role in ROLES})
            made = torch.cat([mixture, enrolment, target], dim=1).to("cpu", torch.int32)
            for row, tokens in zip(rows, made, strict=True):
                self._tokens[keys[row]] = tokens
                if self._cache is not None:
                    self._cache.write(_name(keys[row], device, self.tokenizer.precision), tokens.numpy())
        kept = torch.stack([self._tokens[key] for key in keys]).long().to(device)
        mixture, enrolment, target = kept.split(frames, dim=1)
        return (mixture, enrolment), target

    def _encode(self, batch: Batch) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        """What the network reads of mixture and enrolment, and the target's tokens [B, N, K]."""
        mixture = self.front_end.encode_mixture(batch["mixture"], batch["enrolment"])
        enrolment = self.front_end.encode(batch["enrolment"])
        return (mixture, enrolment), self.front_end.encode(batch["target"])


def _presence_loss(said: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Logits [B] and truth values [B] -> [B], in float32."""
    return F.binary_cross_entropy_with_logits(said.float(), present.float(), reduction="none")


def _open_cache(folder: str | os.PathLike, front_end: FrontEnd) -> ArrayCache:
    """The subfolder for this front end's tokens, named after all that decides them beside the sound."""
    if front_end.mix_continuous:
        raise ValueError("token_cache keeps tokens, and with mix_continuous the mixture has none: set it to null")
    tokenizer = front_end.tokenizer
    decisive = {
        **front_end.settings(),
        "weights": tokenizer.digest(),
        "precision": tokenizer.precision,
        "normalize": getattr(getattr(tokenizer, "encoder", None), "normalize", None),
        "version": TOKENS_VERSION,
    }
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    try:
        return ArrayCache(Path(folder) / digest[:32])
    except OSError as error:
        raise ValueError(f"token_cache: cannot write into {folder}: {error}") from error


def _name(key: int, device: torch.device, precision: str) -> str:
    """An item's name in the cache. Kinds of devices round differently, which changes tokens where it is close, and the
    precision ``auto`` is not the same on all."""
    became = f"-{resolve_precision(precision, device)}" if precision == AUTO else ""
    return f"{device.type}{became}-{key:014x}"
