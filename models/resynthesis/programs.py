"""What can be run of speech resynthesis: speech to units, and units or speech to speech in any of the voices."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from models.interfaces import TOKENS_RECORD, Item, Role
from models.programs import SystemProgram, as_tokens, device_of, require_same_tokens, token_facts
from models.resynthesis.contours import Pair, own_pair
from models.resynthesis.model import LEVEL, Resynthesizer, Taken
from models.resynthesis.network import GRID, SAMPLE_RATE
from modules.frozen import tensor_digest

ALL = "all"  # --speaker all: everybody
Entries = tuple[dict[str, dict[str, str]], dict[str, str]]


class Lists(Protocol):
    """Reads the lists of these programs, see ``data.voices.VoiceLists``."""

    def audio(self, where: str | os.PathLike) -> Entries: ...

    def is_manifest(self, where: str | os.PathLike) -> bool: ...

    def manifest(self, where: str | os.PathLike, *, with_units: bool = True) -> Entries: ...

    def tokens(self, where: str | os.PathLike) -> Entries: ...


class Tokenize(SystemProgram):
    """Speech -> its units.

    Args:
        model: only its unit encoder is asked, and no checkpoint is needed, unless its units are learned.
        lists: see ``Lists``.
        batch_seconds: of short files that a process is given together.

    Raises:
        ValueError: it has no unit encoder.
    """

    record = TOKENS_RECORD

    def __init__(self, *, model: Resynthesizer, lists: Lists, batch_seconds: float = 24.0):
        require_units(model)
        super().__init__({"model": model}, batch_seconds=batch_seconds)
        self.model = model
        self.lists = lists
        self.inputs = {"audio": Role("audio", "audio.scp", sample_rate=model.sample_rate)}
        self.results = {"units": Role("tokens", ".npy", sample_rate=model.sample_rate / model.hop_length)}

    def entries(self, where: str | os.PathLike) -> Entries:
        found, problems = self.lists.audio(where)
        return {name: {"audio": entry["audio"]} for name, entry in found.items()}, problems

    @property
    def checkpoint(self) -> str:
        return "needed" if self.model.network.code_codec is not None else "optional"

    def digests(self) -> Mapping[str, str]:
        return {"tokenizer": units_digest(self.model)}

    def facts(self) -> Mapping[str, Any]:
        return token_facts(self.model)

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        return [{"units": units} for units in self.model.encode_files([item["audio"] for item in items])]


class VoiceVectors(SystemProgram):
    """Speech -> the vector of its voice, by ``speaker_encoder``.

    Args:
        speaker_encoder: has ``embed(wav [B, T]) -> [B, E]``; each file is heard whole.
        lists: see ``Lists``.

    Raises:
        ValueError: there is no speaker encoder.
    """

    record = "vectors.json"

    def __init__(self, *, speaker_encoder: Any | None, lists: Lists, sample_rate: int = SAMPLE_RATE):
        if speaker_encoder is None:
            raise ValueError("speaker_encoder must be set: an object of the recipe with embed(wav [B, T]) -> [B, E]")
        super().__init__({"speaker_encoder": speaker_encoder}, batch_seconds=0.0)
        self.speaker_encoder = speaker_encoder
        self.lists = lists
        self.inputs = {
            "audio": Role("audio", "audio.scp", sample_rate=sample_rate),
            "source": Role("text", "speakers.scp"),
        }
        self.results = {"vector": Role("row", "vectors.jsonl")}

    def entries(self, where: str | os.PathLike) -> Entries:
        return self.lists.audio(where)

    def to(self, device: str | torch.device) -> VoiceVectors:
        if isinstance(self.speaker_encoder, torch.nn.Module):
            self.speaker_encoder.to(device)
        return self

    def digests(self) -> Mapping[str, str]:
        if hasattr(self.speaker_encoder, "digest"):
            return {"speaker_encoder": self.speaker_encoder.digest()}
        if isinstance(self.speaker_encoder, torch.nn.Module):
            return {"speaker_encoder": tensor_digest(self.speaker_encoder.state_dict())}
        return {}

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        return [{"vector": self._row(item)} for item in items]

    @torch.no_grad()
    def _row(self, item: Item) -> dict[str, Any]:
        wav = np.asarray(item["audio"].whole(), dtype=np.float32)
        if not wav.any():
            raise ValueError("it is silent, and has no voice")
        vector = embedded(self.speaker_encoder, wav)
        if not vector.isfinite().all():
            raise ValueError("its vector is not finite")
        return {"speaker": item["source"], "vector": vector.tolist()}


def embedded(speaker_encoder: Any, wav: np.ndarray) -> torch.Tensor:
    """[T] -> [E] float32 on the CPU."""
    heard = torch.from_numpy(wav)[None].to(device_of(speaker_encoder))
    return speaker_encoder.embed(heard)[0].float().cpu()


class VoiceProgram(SystemProgram):
    """What both ways to speech have in common: who speaks. Several voices may lie in one folder under other names.

    Args:
        model: with its checkpoint.
        lists: see ``Lists``.
        batch_seconds: of short files that a process is given together.
    """

    shares_folder = True

    def __init__(self, *, model: Resynthesizer, lists: Lists, batch_seconds: float = 24.0):
        super().__init__({"model": model}, batch_seconds=batch_seconds)
        self.model = model
        self.lists = lists
        rate = model.sample_rate
        self.inputs = {
            "audio": Role("audio", "s1.scp", sample_rate=rate),
            "source": Role("text", "speakers.scp", optional=True),
        }
        if model.network.speaker_mode != "none":
            self.inputs["speaker"] = Role("text", "speaker.scp", optional=True)
        if model.speaker_encoder is not None:
            self.inputs["enrolment"] = Role("audio", "aux_s1.scp", sample_rate=rate, optional=True)
        self.results = {"speech": Role("audio", ".wav", sample_rate=rate)}

    def digests(self) -> Mapping[str, str]:
        return self.model.digests()

    def facts(self) -> Mapping[str, Any]:
        return {"sample_rate": self.model.sample_rate, "bits_per_second": self.model.bits_per_second}

    def outputs(self, item: Item) -> Sequence[str]:
        """One name, or one below each speaker's folder; names of nobody are refused here, before anything is done."""
        speaker = item.inputs.get("speaker")
        if speaker == ALL:
            return [f"{name}/{item.name}" for name in self.model.voices()]
        self._require_voice(item)
        return (item.name,)

    def _require_voice(self, item: Item) -> None:
        network, speaker = self.model.network, item.inputs.get("speaker")
        if network.speaker_mode == "none" or "enrolment" in item.inputs:
            return
        if speaker is None and network.speaker_mode == "embedding":
            try:
                self.model.require_voice(self._own_voice(item))
            except ValueError as error:
                raise ValueError(
                    f"{item.name}: {error}. Or say who speaks: --speaker NAME, or --enrolment FILE"
                ) from None
        elif speaker is None and "source" in item.inputs:
            try:
                self.model.require_voice(item["source"])
            except ValueError as error:
                raise ValueError(f"{item.name}: {error}. Or say who speaks: --speaker NAME, or all") from None
        else:
            self.model.require_voice(speaker)

    def _own_voice(self, item: Item) -> str | None:
        """The name of a vector: the utterance's, in the list or its file's, else the speaker's."""
        names = [item.name, os.path.basename(item.name), os.path.splitext(os.path.basename(item.name))[0]]
        return next((name for name in names if name in self.model.embeddings), item.inputs.get("source"))

    def voices_of(self, item: Item, taken: Taken) -> list[Iterator[torch.Tensor]]:
        """What was taken apart, in each voice that is asked for."""
        source = item.inputs.get("source")
        if "enrolment" in item.inputs:
            vector, target = self._enrolled(item)
            together = {"source": source, "speaker": source, "vector": vector, "target": target}
            return [self.model.put_together(taken, **together)]
        speaker = item.inputs.get("speaker")
        if speaker == ALL:
            return [self.model.put_together(taken, source=source, speaker=name) for name in self.model.voices()]
        own = self._own_voice(item) if self.model.network.speaker_mode == "embedding" else source
        return [self.model.put_together(taken, source=source, speaker=speaker or own)]

    def _enrolled(self, item: Item) -> tuple[torch.Tensor, Pair | None]:
        """The vector of an enrolment, and mean and deviation of its F0."""
        wav = np.asarray(item["enrolment"].whole(), dtype=np.float32)
        pair = own_pair(self.model.pitch(wav))
        if pair is None:
            raise ValueError("the enrolment holds no voiced speech")
        return embedded(self.model.speaker_encoder, wav), pair


class Resynthesise(VoiceProgram):
    """Speech -> units, contour -> speech, in the same voice or another."""

    def __init__(self, *, model: Resynthesizer, lists: Lists, batch_seconds: float = 24.0):
        require_units(model)
        super().__init__(model=model, lists=lists, batch_seconds=batch_seconds)

    def entries(self, where: str | os.PathLike) -> Entries | None:
        return None if os.path.isdir(where) else self.lists.audio(where)

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        found = []
        for item in items:
            taken = self.model.take_apart(np.asarray(item["audio"].whole(), dtype=np.float32))
            found += [{"speech": speech} for speech in self.voices_of(item, taken)]
        return found


class Decode(VoiceProgram):
    """Units of a manifest, with F0 and speaker of its audio, or of arrays -> speech."""

    def __init__(self, *, model: Resynthesizer, lists: Lists, batch_seconds: float = 24.0):
        super().__init__(model=model, lists=lists, batch_seconds=batch_seconds)
        self.tokens = Role("tokens", "tokens.scp", sample_rate=model.sample_rate / model.hop_length)
        units = Role("text", "units.scp", optional=True)
        self.inputs = {**self.inputs, "units": units, "tokens": self.tokens}

    def entries(self, where: str | os.PathLike) -> Entries:
        """Of a manifest, or of lines ``name tokens.npy`` where no F0 is needed."""
        if self.lists.is_manifest(where):
            return self.lists.manifest(where, with_units=self.model.network.code_codec is None)
        if self.model.network.f0_mode != "none" and self.model.intonation.f0_policy != "flat":
            raise ValueError(
                f"{where} is no manifest, and without its audio there is no F0: give a manifest, or f0_policy=flat"
            )
        self.inputs = {"tokens": self.tokens, **self.inputs}  # the first one's length counts
        return self.lists.tokens(where)

    def check_record(self, record: Mapping[str, Any]) -> None:
        require_same_tokens(record, self.model)

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        found = []
        for item in items:
            found += [{"speech": speech} for speech in self.voices_of(item, self._taken(item))]
        return found

    def _taken(self, item: Item) -> Taken:
        if "tokens" not in item.inputs:
            text = item.inputs.get("units")
            units = None if text is None else np.array(text.split(), dtype=np.int64)
            return self.model.take_apart(np.asarray(item["audio"].whole(), dtype=np.float32), units)
        units = as_tokens(item["tokens"], self.model)[:, 0]
        samples, has_f0 = len(units) * self.model.hop_length, self.model.network.f0_mode != "none"
        if self.model.alignment == "aligned":
            whole = -(samples // -GRID) * GRID // self.model.hop_length
            units = torch.cat([units, units[-1:].expand(whole - len(units))])
        f0 = torch.zeros(len(units) * self.model.hop_length // 80) if has_f0 else None
        return Taken(units, f0, samples, LEVEL)  # of which there is no other level


def require_units(model: Resynthesizer) -> None:
    """Raise a ValueError if speech cannot be turned into units."""
    if model.unit_encoder is None and model.network.code_codec is None:
        raise ValueError("ssl_path and kmeans_path must be set: without them there are no units of speech")


def units_digest(model: Resynthesizer) -> str:
    if model.network.code_codec is not None:
        return model.digests()["vocoder"]
    return model.unit_encoder.digest()
