"""The teacher of the first codebook: a frozen HuBERT, WavLM or wav2vec 2.0, heard in step with the codec's frames."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel

from models.speechtokenizer.architecture import Architecture
from models.wavlm import quiet_transformers
from modules.frames import FrameGrid
from modules.frozen import Frozen
from utils.errors import first_few

SAMPLE_RATE = 16000  # Hz, of all of them
KINDS = ("hubert", "wavlm", "wav2vec2")
GRID = FrameGrid(window=400, hop=320)
ZEROS_BEFORE = GRID.overlap // 2  # so that a frame of the teacher lies around the middle of one of the codec
EPS = 1e-7  # of the variance, as in transformers' feature extractor


class Teacher(Frozen):
    """Hidden states of a self-supervised encoder, one frame for each frame of a codec of 50 frames a second.

    Args:
        source: folder in the Hugging Face format (``teacher_path``), or a name on the hub.
        layer: ``avg``, the mean of all hidden states, the input of the first layer among them; or the number of one.
        sample_rate, hop_length: of the codec. At another rate than 16 kHz the teacher hears the speech resampled.

    Raises:
        FileNotFoundError: ``source`` looks like a path, and there is no such folder.
        ValueError: no teacher can be read there; it takes no waveform, has another frame grid or too few layers; or the
            codec's frames are not as long as its own.
    """

    def __init__(
        self,
        source: str | os.PathLike,
        *,
        layer: str | int = "avg",
        sample_rate: int = SAMPLE_RATE,
        hop_length: int = GRID.hop,
    ):
        super().__init__()
        require_same_frames(sample_rate, hop_length)
        source = os.fspath(source)
        self.model, self.normalize = _load(source)
        total = self.model.config.num_hidden_layers
        if layer != "avg" and not (type(layer) is int and 0 <= layer <= total):
            raise ValueError(f"teacher_layer must be avg, or 0 to {total}, the layers of {source}; got {layer!r}")
        self.layer = layer
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.dim: int = self.model.config.hidden_size
        self.freeze()

    @torch.no_grad()
    def forward(self, wav: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Features of a batch; those of a row do not depend on the padding behind it.

        Args:
            wav: [B, T] at the codec's rate.
            lengths: [B], the samples of each row that are no padding, above 0.

        Returns:
            [B, ceil(T / hop), S] float32, 0 in the frames beyond a row's own.
        """
        features = torch.zeros(len(wav), -(-wav.shape[1] // self.hop_length), self.dim, device=wav.device)
        samples = lengths.tolist()
        for length in sorted(set(samples)):
            rows = torch.tensor([row for row, other in enumerate(samples) if other == length], device=wav.device)
            features[rows, : -(-length // self.hop_length)] = self._alike(wav[rows, :length])
        return features

    def _alike(self, wav: torch.Tensor) -> torch.Tensor:
        """[B, T] without padding -> [B, ceil(T / hop), S]."""
        frames = -(-wav.shape[1] // self.hop_length)
        wav = wav.float()
        if self.sample_rate != SAMPLE_RATE:
            wav = AF.resample(wav, self.sample_rate, SAMPLE_RATE)[:, : GRID.hop * frames]
        if self.normalize:
            mean = wav.mean(-1, keepdim=True)
            wav = (wav - mean) * (wav.var(-1, unbiased=False, keepdim=True) + EPS).rsqrt()
        wav = F.pad(wav, (ZEROS_BEFORE, GRID.samples(frames) - ZEROS_BEFORE - wav.shape[1]))
        states = self.model(wav, output_hidden_states=True).hidden_states
        if self.layer != "avg":
            return states[self.layer].float()
        return torch.stack([state.float() for state in states]).mean(0)

    def facts(self) -> dict[str, Any]:
        """What features of this teacher are, as plain values: their record, by which others are refused."""
        return {"teacher": self.digest(), **feature_facts(self.layer, self.sample_rate, self.hop_length)}


def feature_facts(layer: str | int, sample_rate: int, hop_length: int) -> dict[str, Any]:
    """What is known of features that a recipe asks for without their teacher at hand."""
    return {
        "teacher_layer": str(layer),
        "zeros_before": ZEROS_BEFORE,
        "sample_rate": sample_rate,
        "hop_length": hop_length,
    }


def load_teacher(
    *,
    teacher_path: str | os.PathLike | None,
    teacher_layer: str | int,
    architecture: Architecture,
    is_needed: bool = True,
) -> Teacher | None:
    """The teacher that a recipe names for a codec, or None if it names none, or none is needed.

    Raises:
        FileNotFoundError, ValueError: as ``Teacher``; or it has other channels than ``semantic_dimension``.
    """
    if teacher_path is None or not is_needed:
        return None
    rates = {"sample_rate": architecture.sample_rate, "hop_length": architecture.hop_length}
    teacher = Teacher(teacher_path, layer=teacher_layer, **rates)
    if teacher.dim != architecture.semantic_dimension:
        raise ValueError(
            f"semantic_dimension is {architecture.semantic_dimension}, but the teacher in {teacher_path} has "
            f"{teacher.dim} channels"
        )
    return teacher


def is_distilled(*, distill_weight: float, decoder_only: bool = False) -> bool:
    """Whether a training with these settings needs a teacher, or its features."""
    return distill_weight > 0 and not decoder_only


def are_features_needed(*, is_distilled: bool, teacher: Teacher | None) -> bool:
    """Whether the data must bring the features, since nobody else makes them."""
    return is_distilled and teacher is None


def training_facts(
    *,
    is_needed: bool,
    teacher: Teacher | None,
    teacher_layer: str | int,
    architecture: Architecture,
    record: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What the features of a training must be: those of its teacher; or, without one, all of the one in ``record``.

    Raises:
        ValueError: the codec's frames are not as long as a teacher's.
    """
    if not is_needed:
        return {}
    if teacher is not None:
        return teacher.facts()
    require_same_frames(architecture.sample_rate, architecture.hop_length)
    facts = feature_facts(teacher_layer, architecture.sample_rate, architecture.hop_length)
    return facts if record is None else {**facts, "teacher": record.get("teacher")}


def require_same_frames(sample_rate: int, hop_length: int) -> None:
    """Raise a ValueError if a codec's frames are not as long as a teacher's."""
    if hop_length * SAMPLE_RATE != GRID.hop * sample_rate:
        codec, teacher = (
            f"{rate / hop:g} a second ({hop} samples at {rate} Hz)"
            for rate, hop in ((sample_rate, hop_length), (SAMPLE_RATE, GRID.hop))
        )
        raise ValueError(
            f"the frames of codec and teacher must be equally long: the codec has {codec}, the teacher {teacher}"
        )


def _load(source: str) -> tuple[torch.nn.Module, bool]:
    """The model, and whether it hears speech at zero mean and unit variance."""
    is_folder = Path(source).is_dir()
    if not is_folder and (source.count("/") != 1 or source.startswith((".", "~", "/"))):
        raise FileNotFoundError(f"no such folder: teacher_path {source}")
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source, local_files_only=is_folder)
            _require_waveforms(config, source)
            model, info = AutoModel.from_pretrained(
                source, config=config, dtype=torch.float32, output_loading_info=True, local_files_only=is_folder
            )
    except (OSError, RuntimeError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        where = "" if is_folder else " on the hub or in its cache; a local folder works too"
        raise ValueError(f"cannot load teacher_path {source}{where} ({' '.join(str(error).split())})") from error
    # A model with the vector that SpecAugment masks with missing is whole: nothing here is masked.
    if missing := sorted(set(info["missing_keys"]) - {"masked_spec_embed"}):
        raise ValueError(f"teacher_path {source} lacks weights: {first_few(missing)}")
    return model, _normalizes(source, is_folder)


def _require_waveforms(config: Any, source: str) -> None:
    if config.model_type not in KINDS:
        raise ValueError(
            f"teacher_path {source} is a {config.model_type}; a teacher must take waveforms: {', '.join(KINDS)}"
        )
    window, hop = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        window, hop = window + (kernel - 1) * hop, hop * stride
    if (window, hop) != (GRID.window, GRID.hop):
        raise ValueError(
            f"teacher_path {source} makes a frame of {window} samples every {hop} samples; a teacher must have frames "
            f"of {GRID.window} every {GRID.hop}"
        )


def _normalizes(source: str, is_folder: bool) -> bool:
    path = Path(source) / "preprocessor_config.json"
    if not is_folder:
        from transformers.utils import cached_file

        found = cached_file(source, path.name, _raise_exceptions_for_missing_entries=False)
        path = Path(found) if found else path
    if not path.is_file():
        return True
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    return not isinstance(content, Mapping) or content.get("do_normalize", True) is not False
