"""The speaker index: which utterances each speaker has. On-the-fly mixtures are drawn from it."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from data.plain_text import read_text, why_no_path
from utils.errors import first_few
from utils.files import portable, write_json
from utils.safe_load import load_torch

log = logging.getLogger(__name__)


def read_index(path: str | os.PathLike) -> dict[str, list[Path]]:
    """Read all of a speaker index: speaker -> its utterances, each once.

    Two forms are read: the published ``torch.save``d dict (``train_100_360.pt``) and a JSON object of the same shape,
    ``{"speaker": ["path", ...]}``. Paths are absolute or relative to the index's folder.

    Raises:
        OSError: there is no such index, or it may not be read.
        ValueError: the file holds anything else than such a dict, a speaker twice, or entries that are commands or
            something else that is not taken as a path; the error shows the first few.
    """
    path = Path(path)
    index = _load(path)
    if not isinstance(index, Mapping) or not all(_is_list_of_paths(v) for v in index.values()):
        raise ValueError(f"{path} is not a speaker index: a dict of speaker -> list of audio paths is expected")
    folder = os.fspath(path.parent)
    unusable = [
        f"{entry!r} of speaker {speaker}: {reason}"
        for speaker, entries in index.items()
        for entry in entries
        if (reason := why_no_path(entry, folder))
    ]
    if unusable:
        raise ValueError(f"{path}: {len(unusable)} entries cannot be used:\n  " + first_few(unusable))
    _warn_of_shared(path, index)
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


def _load(path: Path) -> object:
    if path.suffix == ".json":
        text = read_text(path, "speaker index")
        try:
            return json.loads(text, object_pairs_hook=_without_repeats)
        except _Repeated as error:
            raise ValueError(f"{path} names {error} more than once") from error
        except (ValueError, RecursionError) as error:  # also of a number with thousands of digits
            raise ValueError(f"{path} is not valid JSON: {error}") from error
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a speaker index")
    if not path.is_file():
        raise FileNotFoundError(f"no such speaker index: {path}")
    return load_torch(path)


class _Repeated(ValueError):
    """A key that a JSON object has twice, of which Python would keep the last."""


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise _Repeated(first_few(key for key, count in counts.items() if count > 1))
    return found


def _warn_of_shared(path: Path, index: Mapping[object, Sequence[str]]) -> None:
    owners = Counter(chain.from_iterable(set(entries) for entries in index.values()))
    if shared := [entry for entry, count in owners.items() if count > 1]:
        log.warning("%s: %d files belong to several speakers: %s", path, len(shared), first_few(shared))


def _is_list_of_paths(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(p, str) for p in value)
