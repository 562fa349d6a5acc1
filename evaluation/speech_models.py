"""Metrics that compare what pretrained models make of the output and of the clean target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from evaluation.metric import (
    SAMPLE_RATE,
    Column,
    Metric,
    Remembered,
    Score,
    Signals,
    Unavailable,
    Unscorable,
    require_packages,
    version,
)
from evaluation.pretrained import Pretrained, quiet
from evaluation.word_errors import WordErrors

_ALONE = "each file alone, without padding"


class SpeechBERTScore(Metric):
    """How well each frame of the output is matched by some frame of the target (Saeki et al., arXiv 2401.16812).

    Args:
        source: a HuBERT or WavLM: a local folder or a hub id.
        layer: index into transformers' ``hidden_states``; 0 is the input of the first layer.
        flag: the option that names another ``source``, for errors.

    Raises:
        Unavailable: there is no such model, or it has too few layers.
    """

    name = "speechbert"
    on_device = True

    def __init__(self, *, source: str = "facebook/hubert-base-ls960", layer: int = 11, flag: str = ""):
        classes = {"hubert": "HubertModel", "wavlm": "WavLMModel"}
        self._pretrained = Pretrained(source, classes=classes, flag=flag)
        total = self._pretrained.config.get("num_hidden_layers", 12)  # both classes' default
        if not 0 <= layer <= total:
            raise Unavailable(f"{source} has layers 0 to {total}, layer {layer} was asked for")
        self.layer = layer
        self.models = {self._pretrained.source: self._pretrained.digest}
        definition = (
            "precision of SpeechBERTScore: mean over the output's frames of the largest cosine similarity to any frame "
            f"of the clean target; hidden_states[{layer}] of {source} for the waveform as it is, {_ALONE}; "
            f"{version('transformers')}"
        )
        self.columns = (Column("speechbert", "SpeechBERTScore", definition),)
        self._of_target = Remembered()

    def load(self, device: str) -> None:
        self._model, self._device = self._pretrained.load(device), device

    def score(self, signals: Signals) -> dict[str, Score]:
        target = self._of_target(self._directions, signals.target)
        output = self._directions(signals.output)
        return {"speechbert": (output @ target.T).amax(dim=1).mean().item()}

    def _directions(self, wav: np.ndarray) -> Any:
        """Hidden states of the frames, each of length one [N, D]."""
        import torch

        _refuse_shorter(wav, self._model.config, frames=1)
        with torch.inference_mode():
            batch = torch.tensor(wav, dtype=torch.float32, device=self._device)[None]
            hidden = self._model(batch, output_hidden_states=True).hidden_states[self.layer][0]
            return torch.nn.functional.normalize(hidden, dim=-1)


class SpeakerSimilarity(Metric):
    """Whether the output has the target's voice: the cosine of two x-vectors.

    Args:
        source: a WavLM with an x-vector head: a local folder or a hub id.
        flag: the option that names another ``source``, for errors.

    Raises:
        Unavailable: there is no such model.
    """

    name = "similarity"
    on_device = True

    def __init__(self, *, source: str = "microsoft/wavlm-base-plus-sv", flag: str = ""):
        self._pretrained = Pretrained(
            source, classes={"wavlm": "WavLMForXVector"}, files=("config.json", "preprocessor_config.json"), flag=flag
        )
        self.models = {self._pretrained.source: self._pretrained.digest}
        definition = (
            f"cosine similarity of the x-vectors of the output and the clean target (not the enrolment) by {source}, "
            f"{_ALONE}; {version('transformers')}"
        )
        self.columns = (Column("similarity", "WavLM similarity", definition),)
        self._of_target = Remembered()

    def load(self, device: str) -> None:
        self._model = self._pretrained.load(device, unused=("objective.",))  # the loss that it was trained with
        self._device = device
        with self._pretrained.loading("a feature extractor"):
            from transformers import Wav2Vec2FeatureExtractor

            self._features = Wav2Vec2FeatureExtractor.from_pretrained(self._pretrained.folder, local_files_only=True)

    def score(self, signals: Signals) -> dict[str, Score]:
        target = self._of_target(self._direction, signals.target)
        return {"similarity": (self._direction(signals.output) @ target).item()}

    def _direction(self, wav: np.ndarray) -> Any:
        """The x-vector, brought to length one [D]."""
        import torch

        config = self._model.config
        context = sum((k - 1) * d for k, d in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True))
        _refuse_shorter(wav, config, frames=context + 2)  # two, to have a standard deviation
        with torch.inference_mode():
            batch = self._features(wav, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values.to(self._device)
            return torch.nn.functional.normalize(self._model(batch).embeddings[0], dim=-1)


class DifferentialWER(WordErrors):
    """Word error rate between what Whisper hears in the output and what it hears in the clean target.

    Args:
        source: a Whisper: a local folder or a hub id.
        flag: the option that names another ``source``, for errors.

    Raises:
        Unavailable: there is no such model.
    """

    name = "dwer"
    on_device = True

    def __init__(self, *, source: str = "openai/whisper-base", flag: str = ""):
        require_packages("jiwer")
        self._pretrained = Pretrained(
            source,
            classes={"whisper": "WhisperForConditionalGeneration"},
            files=("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json"),
            extras=("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "normalizer.json"),
            flag=flag,
        )
        self.models = {self._pretrained.source: self._pretrained.digest}
        spellings = {}
        if (self._pretrained.folder / "normalizer.json").is_file():
            spellings = self._pretrained.read_json("normalizer.json")
        super().__init__(
            by=f"{source} (English, greedy, temperature 0, timestamps only where a file is longer than its window)",
            title="dWER",
            versions=version("transformers"),
            spellings=spellings,
        )

    def load(self, device: str) -> None:
        self._model, self._device = self._pretrained.load(device), device
        with self._pretrained.loading("a tokenizer and a feature extractor"):
            from transformers import WhisperFeatureExtractor, WhisperTokenizer

            folder = self._pretrained.folder
            self._tokenizer = WhisperTokenizer.from_pretrained(folder, local_files_only=True)
            self._features = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
        with self._pretrained.loading("its settings"):
            settings = self._model.generation_config
            self._options = {"num_beams": 1, "temperature": 0.0, "condition_on_prev_tokens": False}
            if getattr(settings, "is_multilingual", True):  # a model of English alone refuses to be told so
                self._options |= {"language": "en", "task": "transcribe"}
                languages, tasks = getattr(settings, "lang_to_id", ()), getattr(settings, "task_to_id", ())
                if "<|en|>" not in languages or "transcribe" not in tasks:
                    raise ValueError("generation_config.json knows no <|en|> or no transcribe")

    def transcribe(self, wav: np.ndarray) -> str:
        import torch

        if len(wav) > self._features.n_samples:  # from window to window, by the timestamps that it gives
            length = {"truncation": False, "padding": "longest"}
            how = {"return_timestamps": True, "monitor_progress": _refuse_to_crawl(self._features.nb_max_frames)}
        else:  # one call: a timestamp out of place is no reason to begin again
            length, how = {}, {"return_timestamps": False, "force_unique_generate_call": True}
        with torch.inference_mode(), quiet():
            features = self._features(wav, sampling_rate=SAMPLE_RATE, return_tensors="pt", **length).input_features
            ids = self._model.generate(features.to(self._device), **how, **self._options)
        return self._tokenizer.decode(ids[0], skip_special_tokens=True)


def _refuse_shorter(wav: np.ndarray, config: Any, *, frames: int) -> None:
    """Raise Unscorable if the convolutions of a model make fewer frames of a signal."""
    least = frames
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        least = (least - 1) * stride + kernel
    if len(wav) < least:
        raise Unscorable(f"too short: it has {len(wav)} samples, the model needs {least}")


def _refuse_to_crawl(window: int) -> Callable[[Any], None]:
    """What Whisper calls before each window of so many frames: raises Unscorable if it gets on too slowly to wait for.

    A window begins at the last timestamp of the one before, which in bad speech can be 20 ms on, again and again.
    """
    begun = 0

    def check(progress: Any) -> None:  # [1, 2]: frames behind it, and in all
        nonlocal begun
        begun += 1
        total = int(progress[0, 1])
        if begun > 30 * total / window + 1:
            raise Unscorable(f"Whisper gets on by less than a thirtieth of its window a time, {begun - 1} times")

    return check
