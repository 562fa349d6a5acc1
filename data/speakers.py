"""The speaker index: which utterances each speaker has. On-the-fly mixtures are drawn from it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.files import portable, write_json
from utils.safe_load import load_torch

log = logging.getLogger(__name__)


def read_index(path: str | os.PathLike) -> dict[str, list[Path]]:
    """Read all of a speaker index: speaker -> its utterances, each once.

    Two forms are read: the published ``torch.save``d dict (``train_100_360.pt``) and a JSON object of the same shape,
    ``{"speaker": ["path", ...]}``. Paths are absolute or relative to the index's folder.

    Raises:
        FileNotFoundError: there is no such index.
        ValueError: the file holds anything else than such a dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such speaker index: {path}")
    if path.suffix == ".json":
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from error
    else:
        index = load_torch(path)
    if not isinstance(index, Mapping) or not all(_is_list_of_paths(v) for v in index.values()):
        raise ValueError(f"{path} is not a speaker index: a dict of speaker -> list of audio paths is expected")
    # A path listed twice is one utterance: a target must not be its own enrolment.
    return {str(s): [path.parent / p for p in dict.fromkeys(map(str, paths))] for s, paths in index.items()}


def read_speakers(path: str | os.PathLike) -> dict[str, list[Path]]:
    """As ``read_index``, without the speakers that cannot be a target: those with fewer than two utterances.

    Raises:
        FileNotFoundError, ValueError: as ``read_index``, or fewer than two speakers can be used.
    """
    speakers = read_index(path)
    usable = {speaker: paths for speaker, paths in speakers.items() if len(paths) >= 2}
    if len(usable) < len(speakers):
        left_out = len(speakers) - len(usable)
        log.warning("%s: %d of %d speakers left out (fewer than two utterances)", path, left_out, len(speakers))
    if len(usable) < 2:
        raise ValueError(f"{path}: two speakers with two utterances each are needed, {len(usable)} found")
    return usable


def write_speakers(path: str | os.PathLike, speakers: Mapping[str, Sequence[str | os.PathLike]]) -> None:
    """Write the JSON form; paths inside the index's own folder are written relative to it."""
    folder = Path(path).parent
    write_json(path, {speaker: [portable(audio, folder) for audio in paths] for speaker, paths in speakers.items()})


def _is_list_of_paths(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(p, str) for p in value)
