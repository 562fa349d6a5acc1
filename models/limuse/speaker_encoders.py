"""Voiceprints from enrolment audio: public speaker encoders in local folders, of which nothing is executed."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.wavlm import quiet_transformers
from modules.frozen import Frozen
from utils.errors import describe, first_few
from utils.safe_load import Inert, load_torch
from utils.safe_yaml import load_yaml
from utils.tensor_files import as_tensors, existing_folder, listing

FILES = "files"
SAMPLE_RATE = 16000
_ECAPA = "speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN"
_UNUSED = ("objective.", "wavlm.masked_spec_embed")  # of the model, by embeddings
_NUMBERS = "a whole number, or a list of them"


class XVector(Frozen):
    """The speaker model of a Hugging Face folder, a ``WavLMForXVector`` such as microsoft/wavlm-base-plus-sv.

    Args:
        folder: with ``config.json``, ``preprocessor_config.json`` and the weights.
    """

    kind = "xvector"

    def __init__(self, folder: str | os.PathLike):
        super().__init__()
        from transformers import AutoFeatureExtractor, WavLMForXVector  # here, since it takes seconds to import

        folder = existing_folder(folder, "speaker encoder")
        _require_architecture(folder)
        try:
            with quiet_transformers():
                self.features = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
                self.model, report = WavLMForXVector.from_pretrained(
                    folder,
                    local_files_only=True,
                    output_loading_info=True,
                    use_safetensors=_has_safetensors(folder),
                    dtype=torch.float32,  # also of files in half precision, which is for keeping, not for computing
                )
        except Exception as error:  # transformers raises almost anything
            said = describe(error).partition("\n")[0][:300]
            raise ValueError(f"{folder} cannot be read as a WavLMForXVector ({said})") from error
        missing = [*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])]
        missing = [name for name in missing if not name.startswith(_UNUSED)]
        if missing:
            raise ValueError(f"{folder} is no whole WavLMForXVector, it lacks {first_few(sorted(missing))}")
        self.dim = int(self.model.config.xvector_output_dim)
        self.freeze()

    @torch.no_grad()
    def embed(self, wav: torch.Tensor) -> torch.Tensor:
        """[B, T] at 16 kHz -> [B, dim]."""
        rows = [row.cpu().numpy() for row in wav]
        inputs = self.features(rows, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        device = next(self.model.parameters()).device
        return self.model(input_values=inputs["input_values"].to(device)).embeddings.float()


class ECAPA(Frozen):
    """The speaker model of a SpeechBrain folder, such as speechbrain/spkrec-ecapa-voxceleb.

    Args:
        folder: with ``hyperparams.yaml``, which is parsed and never executed, and ``embedding_model.ckpt``.
    """

    kind = "ecapa"

    def __init__(self, folder: str | os.PathLike):
        super().__init__()
        from speechbrain.lobes.features import Fbank  # here, since it takes seconds to import
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
        from speechbrain.processing.features import InputNormalization

        folder = existing_folder(folder, "speaker encoder")
        settings, weights = folder / "hyperparams.yaml", folder / "embedding_model.ckpt"
        if not settings.is_file() or not weights.is_file():
            raise FileNotFoundError(
                f"no speaker encoder in {folder}: hyperparams.yaml and embedding_model.ckpt are needed. Found "
                f"{first_few(listing(folder))}"
            )
        mels, arguments = _read_settings(settings, inspect.signature(ECAPA_TDNN).parameters)
        self.features = Fbank(n_mels=mels)
        self.norm = InputNormalization(norm_type="sentence", std_norm=False)
        try:
            self.model = ECAPA_TDNN(**arguments)
            self.model.load_state_dict(as_tensors(load_torch(weights), weights))
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
            said = " ".join(describe(error).split())[:300]
            raise ValueError(f"{weights} does not fit {settings}: {said}") from error
        self.dim = int(self.model.fc.conv.out_channels)
        self.freeze()

    @torch.no_grad()
    def embed(self, wav: torch.Tensor) -> torch.Tensor:
        """[B, T] at 16 kHz -> [B, dim]."""
        wav = wav.to(next(self.model.parameters()).device)
        whole = torch.ones(len(wav), device=wav.device)
        return self.model(self.norm(self.features(wav.float()), whole), whole)[:, 0].float()


ENCODERS = {encoder.kind: encoder for encoder in (XVector, ECAPA)}


def load_speaker_encoder(
    speaker_encoder: str, speaker_encoder_path: Path | None, voiceprint_dim: int, cues: list[str]
) -> XVector | ECAPA | None:
    """What makes voiceprints of audio; None where voiceprints come in files, or are no cue.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: an unknown kind, a folder that is no such encoder or holds code, or another size of voiceprint.
    """
    if speaker_encoder != FILES and speaker_encoder not in ENCODERS:
        kinds = ", ".join((FILES, *ENCODERS))
        raise ValueError(f"speaker_encoder must be one of {kinds}, got {speaker_encoder!r}")
    if speaker_encoder == FILES or "voiceprint" not in cues:
        return None
    if speaker_encoder_path is None:
        raise ValueError(f"speaker_encoder {speaker_encoder} needs its folder: set speaker_encoder_path")
    encoder = ENCODERS[speaker_encoder](speaker_encoder_path)
    if encoder.dim != voiceprint_dim:
        raise ValueError(
            f"the voiceprints of {speaker_encoder_path} have {encoder.dim} numbers, voiceprint_dim is {voiceprint_dim}"
        )
    return encoder


def origin_of(encoder: XVector | ECAPA | None) -> str:
    """Where voiceprints come from, in a text: the kind of encoder and the digest of its weights."""
    return FILES if encoder is None else f"{encoder.kind} {encoder.digest()}"


def _require_architecture(folder: Path) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no speaker encoder in {folder}: there is no config.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("architectures")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as settings ({error})"[:500]) from error
    if found != ["WavLMForXVector"]:
        raise ValueError(f"{path} is of {found}, not of a WavLMForXVector")


def _has_safetensors(folder: Path) -> bool | None:
    return True if any(folder.glob("*.safetensors")) else None


def _read_settings(path: Path, known: Mapping[str, inspect.Parameter]) -> tuple[int, dict[str, Any]]:
    """Mel bands, and the arguments of the ECAPA-TDNN."""
    settings = load_yaml(path, packages=("speechbrain", "torch", "torchaudio"))
    model = settings.get("embedding_model")
    if not isinstance(model, Inert) or model.name != _ECAPA:
        raise ValueError(f"{path} must have 'embedding_model: !new:{_ECAPA}', got {model!r}"[:500])
    arguments = dict(model.attributes)
    problems = [f"{name} is unknown" for name in arguments if name not in known]
    problems += [
        f"{name} must be {_NUMBERS}, got {value!r}"[:200] for name, value in arguments.items() if not _is_plain(value)
    ]
    bands = settings.get("n_mels", arguments.get("input_size"))
    if type(bands) is not int or bands != arguments.get("input_size"):
        problems.append(f"n_mels {bands!r} must be the input_size, {arguments.get('input_size')!r}"[:200])
    if problems:
        raise ValueError(f"{path}: {first_few(problems)}")
    return bands, arguments


def _is_plain(value: Any) -> bool:
    return type(value) in (int, float, bool) or type(value) is list and all(type(x) is int for x in value)
