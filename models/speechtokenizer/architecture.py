"""The sizes of a SpeechTokenizer, as its released ``config.json`` names them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.seanet import ACTIVATIONS
from utils.errors import first_few
from utils.files import write_json


@dataclass(frozen=True)
class Architecture:
    """What a codec's weights must fit.

    Attributes:
        sample_rate: in Hz.
        n_filters: channels at the sample rate; they double with each stride.
        strides: from the frames to the samples, the order of the decoder.
        dimension: D, channels of the latents.
        semantic_dimension: S, channels of the teacher's features.
        lstm_layers, bidirectional: of the encoder's LSTM; the decoder's has as many layers, and runs forwards.
        n_residual_layers, residual_kernel_size, dilation_base: of the residual blocks at each rate.
        activation: ``ELU`` or ``Snake``.
        codebook_size: V.
        n_q: codebooks.

    Raises:
        ValueError: a value of another type or range; all of them are listed.
    """

    sample_rate: int
    n_filters: int
    strides: tuple[int, ...]
    dimension: int
    semantic_dimension: int
    lstm_layers: int
    bidirectional: bool
    n_residual_layers: int
    residual_kernel_size: int
    dilation_base: int
    activation: str
    codebook_size: int
    n_q: int

    def __post_init__(self) -> None:
        problems = []
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if name == "strides":
                if not isinstance(value, list | tuple) or not value or not all(_is_above(v, 0) for v in value):
                    problems.append(f"strides must be whole numbers above 0, got {value!r}")
                else:
                    object.__setattr__(self, "strides", tuple(value))
            elif name == "bidirectional":
                if type(value) is not bool:
                    problems.append(f"bidirectional must be true or false, got {value!r}")
            elif name == "activation":
                if value not in ACTIVATIONS:
                    problems.append(f"activation must be one of {', '.join(ACTIVATIONS)}, got {value!r}")
            elif not _is_above(value, -1 if name == "n_residual_layers" else 0):
                problems.append(f"{name} must be a whole number above 0, got {value!r}")
        if not problems and self.n_filters < 2 and self.n_residual_layers:
            problems.append(f"n_filters must be 2 or more: residual blocks have half of them, got {self.n_filters}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return math.prod(self.strides)


KEYS = tuple(field.name for field in dataclasses.fields(Architecture))


def make_architecture(*, codec_config: str | os.PathLike | None = None, **sizes: Any) -> Architecture:
    """The architecture of a released ``config.json``, or, where none is named, of the thirteen sizes of a recipe.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or a key is missing or has a value that cannot be.
    """
    if codec_config is not None:
        return read_config(codec_config)
    if missing := [key for key in KEYS if key not in sizes]:
        raise ValueError(f"without codec_config, {first_few(missing, 13)} must be set")
    return Architecture(**sizes)


def read_config(path: str | os.PathLike) -> Architecture:
    """The thirteen keys of a released ``config.json``, whose others are ignored; raises as ``make_architecture``."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such codec_config: {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} must hold an object of keys and values, it holds a {type(content).__name__}")
    if missing := [key for key in KEYS if key not in content]:
        raise ValueError(f"{path} lacks {first_few(missing, 13)}")
    try:
        return Architecture(**{key: content[key] for key in KEYS})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_config(path: str | os.PathLike, architecture: Architecture) -> None:
    """Write the thirteen keys, as ``read_config`` and the public code read them."""
    write_json(path, dataclasses.asdict(architecture))


def _is_above(value: object, bound: int) -> bool:
    return type(value) is int and value > bound
