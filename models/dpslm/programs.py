"""What can be run of DP-SLM: how likely units are, how they go on, and how they sound."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from models.dpslm.provenance import making, require_same_making, tell_unknown
from models.dpslm.repeats import collapsed
from models.dpslm.speaking import Utterance
from models.dpslm.speech import UnitSpeech, codes_of
from models.dpslm.unit_lm import UnitLanguageModel
from models.interfaces import Item, Role, Tokenizer
from models.programs import SystemProgram, as_tokens

Entries = tuple[dict[str, dict[str, str]], dict[str, str]]


class Listed(Protocol):
    """What a list holds: name -> file, and name -> problem."""

    entries: dict[str, str]
    problems: dict[str, str]


class UnitLists(Protocol):
    """Reads lists of units and of audio, see ``data.utterances.list_utterances``."""

    def __call__(self, where: str | os.PathLike) -> Listed: ...


class _OfUnits(SystemProgram):
    """What reads units, or audio that it makes units of.

    Args:
        parts: see ``SystemProgram``.
        learned: what keeps, as ``provenance``, of which units it learned.
        model: its name, for errors.
        units: makes units of audio; None: there is no audio in the lists.
        unit_rate: frames a second of units.
        lists: name -> file; see ``UnitLists``.
        batch_seconds: of short items that a process is given together.
    """

    shares_folder = False

    def __init__(
        self,
        parts: Mapping[str, Any],
        *,
        learned: Any,
        model: str,
        units: Tokenizer | None,
        unit_rate: float,
        num_clusters: int,
        lists: UnitLists | None,
        batch_seconds: float,
    ):
        super().__init__({**parts, **({} if units is None else {"units": units})}, batch_seconds=batch_seconds)
        self.learned = learned
        self.model_name = model
        self.units = units
        self.num_clusters = num_clusters
        self.lists = lists
        self.inputs = {"units": Role("tokens", "units.scp", sample_rate=unit_rate, optional=True)}
        if units is not None:
            if units.vocab_size != num_clusters:
                raise ValueError(
                    f"the {model} has units of num_clusters={num_clusters}, the codebook has {units.vocab_size}"
                )
            self.inputs["audio"] = Role("audio", "audio.scp", sample_rate=units.sample_rate, optional=True)

    def entries(self, where: str | os.PathLike) -> Entries | None:
        """Of a list, where a path that ends in .npy is of units, and any other of audio."""
        if os.path.isdir(where) or self.lists is None:
            return None
        listed, found = self.lists(where), {}
        problems = dict(listed.problems)
        for name, path in listed.entries.items():
            role = "units" if path.endswith(".npy") else "audio"
            if role not in self.inputs:
                problems[name] = (
                    f"{path}: to make units of audio, wavlm_path and codebook_path must be set; units are .npy files"
                )
            else:
                found[name] = self.inputs_of(role, path)
        return found, problems

    def inputs_of(self, role: str, path: str) -> dict[str, str]:
        return {role: path}

    def load_checkpoint(self, path: str) -> None:
        super().load_checkpoint(path)
        self.after_loading()

    def after_loading(self) -> None:
        """Refuse audio if the model learned from other units than those that are made of it here.

        Raises:
            ValueError: see ``require_same_making``.
        """
        tell_unknown(self.learned.provenance, model=self.model_name)
        if self.units is not None:
            self._compare(making(self.units))

    def check_record(self, record: Mapping[str, Any]) -> None:
        found = record.get("vocab_size", self.num_clusters)
        if found != self.num_clusters:
            raise ValueError(f"the units are of {found} clusters, the {self.model_name} has {self.num_clusters}")
        self._compare(record)

    def _compare(self, now: Mapping[str, Any]) -> None:
        then = self.learned.provenance.get("units", {})
        require_same_making(then, now, what="units", model=self.model_name)

    def read(self, items: Sequence[Item]) -> list[Tensor]:
        """The units of each item, frame-aligned or not, [N] int64."""
        audible = [item for item in items if "units" not in item.inputs]
        made = iter(self.units.encode_files([item["audio"] for item in audible]) if audible else ())
        return [self._units(item["units"]) if "units" in item.inputs else next(made)[:, 0] for item in items]

    def _units(self, array: np.ndarray) -> Tensor:
        return as_tokens(array, _Format(self.num_clusters))[:, 0]


class _Format:
    """Of units: what ``as_tokens`` asks for."""

    num_codebooks = 1

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size


class Score(_OfUnits):
    """Units or audio -> their log-likelihood, a row each.

    Args:
        model: the unit language model.
        units: makes units of audio; None: there is none.
        lists: see ``UnitLists``.
        batch_seconds: of short items that are computed together.
    """

    def __init__(
        self,
        *,
        model: UnitLanguageModel,
        lists: UnitLists,
        units: Tokenizer | None = None,
        unit_rate: float = 50,
        batch_seconds: float = 120.0,
    ):
        super().__init__(
            {"unit_lm": model}, learned=model, model="unit language model", units=units, unit_rate=unit_rate,
            num_clusters=model.num_clusters, lists=lists, batch_seconds=batch_seconds,
        )  # fmt: skip
        self.model = model
        self.results = {"score": Role("row", "scores.jsonl")}

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        units = [collapsed(found, self.num_clusters) for found in self.read(items)]
        scores = self.model.score(units)
        return [
            {"score": {"tokens": len(some), "log_likelihood": score}} for some, score in zip(units, scores, strict=True)
        ]


class Continue(_OfUnits):
    """Units or audio -> what comes after, as units, and as sound where there is an acoustic model.

    Args:
        model: the unit language model.
        units, lists, unit_rate, batch_seconds: as of ``Score``.
        speech: makes sound of units; None: there is none.
        include_prompt: the results begin with the prompt.
        voice_of_prompt: the sound is made in the voice of a prompt that is audio.
        samples: of each item.
        seed: of all that is drawn, with the name and the number of the sample.

    Raises:
        ValueError: parts that do not fit together, or values out of range.
    """

    def __init__(
        self,
        *,
        model: UnitLanguageModel,
        lists: UnitLists,
        units: Tokenizer | None = None,
        speech: UnitSpeech | None = None,
        include_prompt: bool = False,
        voice_of_prompt: bool = False,
        samples: int = 1,
        seed: int = 0,
        unit_rate: float = 50,
        batch_seconds: float = 120.0,
    ):
        parts = {"unit_lm": model, **({} if speech is None else speech.parts)}
        super().__init__(
            parts, learned=model, model="unit language model", units=units, unit_rate=unit_rate,
            num_clusters=model.num_clusters, lists=lists, batch_seconds=batch_seconds,
        )  # fmt: skip
        require_samples(samples)
        if speech is not None and speech.acoustic.num_clusters != model.num_clusters:
            raise ValueError(
                f"the unit language model has num_clusters={model.num_clusters}, the acoustic model "
                f"{speech.acoustic.num_clusters}"
            )
        if voice_of_prompt and (speech is None or units is None):
            raise ValueError(
                "voice_of_prompt needs acoustic_path and wavtokenizer_path, and wavlm_path and codebook_path"
            )
        self.model, self.speech = model, speech
        self.include_prompt, self.voice_of_prompt = include_prompt, voice_of_prompt
        self.samples, self.seed = samples, seed
        self.results = {"units": Role("tokens", ".npy", sample_rate=unit_rate), "row": Role("row", "continued.jsonl")}
        if speech is not None:
            self.results["speech"] = Role("audio", ".wav", sample_rate=speech.sample_rate)
        if voice_of_prompt:
            self.inputs["voice"] = Role("audio", "audio.scp", sample_rate=speech.sample_rate, optional=True)

    def inputs_of(self, role: str, path: str) -> dict[str, str]:
        return {role: path, **({"voice": path} if role == "audio" and self.voice_of_prompt else {})}

    def after_loading(self) -> None:
        super().after_loading()
        if self.speech is not None:
            then, now = (part.provenance.get("units", {}) for part in (self.speech.acoustic, self.model))
            require_same_making(then, now, what="units", model="acoustic model")

    def outputs(self, item: Item) -> Sequence[str]:
        return sample_names(item.name, self.samples)

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        heard = self.read(items)
        prompts = [collapsed(units, self.num_clusters) for units in heard]
        places = [place for place in range(len(items)) for _ in range(self.samples)]
        seeds = seeds_of(self.seed, items, self.samples)
        new = self.model.go_on([prompts[place] for place in places], seeds=seeds)
        units = [
            torch.cat([prompts[place], found.units]) if self.include_prompt else found.units
            for place, found in zip(places, new, strict=True)
        ]
        results: list[dict[str, Any]] = [{"units": some[:, None]} for some in units]
        for place in range(len(items)):
            mine = new[place * self.samples : (place + 1) * self.samples]
            told = [{"units": len(one.units), "ended": "max_units" if one.was_cut else "itself"} for one in mine]
            results[(place + 1) * self.samples - 1]["row"] = {"prompt": len(prompts[place]), "samples": told}
        if self.speech is not None:
            voices = [self._voice(item, own) for item, own in zip(items, heard, strict=True)]
            said = self.speech.say(units, seeds=seeds, prompts=[voices[place] for place in places])
            for result, utterance in zip(results, said, strict=True):
                result["speech"] = self.speech.sound(codes_of(utterance))
        return results

    def _voice(self, item: Item, units: Tensor) -> tuple[Tensor, Tensor] | None:
        """The units and the codes of a prompt that is audio, where its voice is wanted."""
        if "voice" not in item.inputs:
            return None
        (codes,) = self.speech.codec.encode_files([item["voice"]])
        return units, codes[:, 0]


class Decode(_OfUnits):
    """Units -> speech.

    Args:
        speech: makes sound of units.
        samples: of each item.
        seed: of all that is drawn, with the name and the number of the sample.
        batch_seconds: of short items that are computed together.
    """

    shares_folder = True

    def __init__(
        self,
        *,
        speech: UnitSpeech,
        samples: int = 1,
        seed: int = 0,
        units: Tokenizer | None = None,
        batch_seconds: float = 120.0,
    ):
        acoustic = speech.acoustic
        super().__init__(
            speech.parts, learned=acoustic, model="acoustic model", units=units, unit_rate=acoustic.unit_rate,
            num_clusters=acoustic.num_clusters, lists=None, batch_seconds=batch_seconds,
        )  # fmt: skip
        require_samples(samples)
        self.speech, self.samples, self.seed = speech, samples, seed
        self.inputs = {"units": Role("tokens", "units.scp", sample_rate=acoustic.unit_rate)}
        self.results = {
            "codes": Role("tokens", "tokens/.npy", sample_rate=speech.code_rate, optional=True),
            "row": Role("row", "spoken.jsonl"),
            "speech": Role("audio", ".wav", sample_rate=speech.sample_rate),
        }

    def after_loading(self) -> None:
        super().after_loading()
        self.speech.check()

    def outputs(self, item: Item) -> Sequence[str]:
        return sample_names(item.name, self.samples)

    def __call__(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        units = [some for some in self.read(items) for _ in range(self.samples)]
        said = self.speech.say(units, seeds=seeds_of(self.seed, items, self.samples))
        each = [said[place : place + self.samples] for place in range(0, len(said), self.samples)]
        return [result for some in each for result in self._results(some)]

    def _results(self, said: Sequence[Utterance]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        for utterance in said:
            codes = codes_of(utterance)
            results.append({"codes": codes[:, None], "speech": self.speech.sound(codes)})
        told = [{"codes": len(one.codes), "ended": "max_tokens" if one.was_cut else "itself"} for one in said]
        results[-1]["row"] = {"units": len(said[0].units), "samples": told}
        return results


class Resynthesise(Decode):
    """Speech -> its units -> speech, in a voice that is invented. Arguments as of ``Decode``.

    Raises:
        ValueError: the units of speech are not those that the acoustic model says.
    """

    def __init__(
        self,
        *,
        units: Tokenizer,
        speech: UnitSpeech,
        samples: int = 1,
        seed: int = 0,
        batch_seconds: float = 120.0,
    ):
        super().__init__(speech=speech, samples=samples, seed=seed, units=units, batch_seconds=batch_seconds)
        self.inputs = {"audio": Role("audio", "s1.scp", sample_rate=units.sample_rate)}


def require_samples(samples: int) -> None:
    """Raise a ValueError if that is no number of samples."""
    if samples < 1:
        raise ValueError(f"samples must be above 0, got {samples}")


def sample_names(name: str, samples: int) -> list[str]:
    """Under which names the samples of an item are kept."""
    return [name] if samples == 1 else [f"{name}_{number}" for number in range(1, samples + 1)]


def seeds_of(seed: int, items: Sequence[Item], samples: int) -> list[int]:
    """Of all samples of all items: they follow from name and sample, whatever else is in a list."""
    return [_seed(f"{seed} {sample} {item.name}") for item in items for sample in range(samples)]


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
