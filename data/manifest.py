"""Manifests of speech resynthesis: a line an utterance, a Python dict literal, which is read and never evaluated."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import audio
from data.plain_text import read_text
from utils.errors import USER_ERRORS, describe
from utils.files import portable, write_text

UNIT_KEYS = ("cpc_km100", "vqvae256", "hubert", "codes")  # the first that a line has counts
SPEAKER_RULES = ("_", "parent_name", "parent_parent_name", "single", "manifest")
ONE_SPEAKER = "A"
_LONGEST = 8 * 2**20  # bytes of a line: some days of units
_SHOWN = 5  # lines of one error


@dataclass(frozen=True)
class Utterance:
    """A line of a manifest.

    Attributes:
        audio: path.
        units: [N] int64; None where the line has none, and none are needed.
        speaker: the key ``spk``, if there is one.
        line: its number, from 1.
    """

    audio: str
    units: np.ndarray | None
    speaker: str | None
    line: int


def is_manifest(path: str | os.PathLike) -> bool:
    """Whether the first line of a file that is not empty begins with ``{``."""
    return read_text(path).lstrip().startswith("{")


def read_manifest(
    path: str | os.PathLike,
    *,
    vocab_size: int | None = None,
    hop: int | None = None,
    audio_root: str | os.PathLike | None = None,
    limit: int | None = None,
) -> list[Utterance]:
    """All utterances of a manifest.

    Args:
        vocab_size: V; units must be in [0, V). None: no units are needed, and a bare path is a line too.
        hop: samples of a unit at 16 kHz: units and audio may be two units apart in length. None: not compared.
        audio_root: folder that paths are relative to; None: the manifest's own.
        limit: only so many of the first lines; None: all.

    Raises:
        OSError: there is no such manifest, or it may not be read.
        ValueError: it is empty, or has bad lines: the first few are listed by number, and how many more there are.
    """
    folder = Path(audio_root) if audio_root is not None else Path(path).parent
    found: list[Utterance] = []
    problems: dict[int, str] = {}
    for number, line in enumerate(read_text(path, "manifest").split("\n"), 1):
        if not line.strip():
            continue
        if limit is not None and len(found) + len(problems) >= limit:
            break
        try:
            found.append(_parse(line.strip(), number, folder, vocab_size))
        except ValueError as error:
            problems[number] = str(error)
    with ThreadPoolExecutor(8) as pool:  # the disk answers while others are asked
        for one, problem in zip(found, pool.map(lambda one: _why_not(one, hop), found), strict=True):
            if problem:
                problems[one.line] = problem
    if problems:
        listed = [f"line {number}: {problems[number]}" for number in sorted(problems)]
        more = [f"and {len(listed) - _SHOWN} more"] * (len(listed) > _SHOWN)
        raise ValueError(f"{path}: {len(listed)} bad lines:\n  " + "\n  ".join(listed[:_SHOWN] + more))
    if not found:
        raise ValueError(f"{path} is empty")
    return found


def write_manifest(path: str | os.PathLike, items: Iterable[Mapping[str, Any]]) -> None:
    """Write utterances, a line each, which is JSON and a Python literal at once; audio below the folder is relative."""
    folder = Path(path).parent
    lines = []
    for item in items:
        item = {**item, "audio": portable(item["audio"], folder)}
        lines.append(json.dumps(item, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
    write_text(path, "".join(line + "\n" for line in lines))


def names_of(paths: Sequence[str]) -> list[str]:
    """Of each path its part below the deepest folder that is common to all, without its suffix.

    Raises:
        ValueError: two have the same name.
    """
    absolute = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else ""
    names = [os.path.splitext(os.path.relpath(path, common))[0] for path in absolute]
    seen: dict[str, str] = {}
    for name, path in zip(names, paths, strict=True):
        if seen.setdefault(name, path) != path:
            raise ValueError(f"{seen[name]} and {path} have the same name, {name}")
    return names


def require_rule(rule: str) -> None:
    if rule not in SPEAKER_RULES:
        raise ValueError(f"speaker_from must be one of {', '.join(SPEAKER_RULES)}, got {rule!r}")


def speaker_of(path: str, rule: str, *, named: str | None = None) -> str:
    """Who speaks in a file.

    Args:
        rule: ``_``, the file's name up to its first underscore; ``parent_name`` and ``parent_parent_name``, a folder's;
            ``single``, one speaker in all; ``manifest``, what the line's key ``spk`` says.
        named: that.

    Raises:
        ValueError: there is no such rule, or it finds no name.
    """
    require_rule(rule)
    if rule == "manifest":
        if not named:
            raise ValueError(f"speaker_from is manifest, but the line of {path} has no spk")
        return named
    if rule == "single":
        return ONE_SPEAKER
    file = Path(os.path.abspath(path))
    if rule == "_":
        return file.stem.split("_")[0]
    return (file.parent if rule == "parent_name" else file.parent.parent).name


def _parse(line: str, number: int, folder: Path, vocab_size: int | None) -> Utterance:
    if len(line) > _LONGEST:
        raise ValueError(f"{len(line)} characters are more than a line may have, {_LONGEST}")
    if not line.startswith("{"):
        if vocab_size is not None:
            raise ValueError(f"not a dict, and units are needed: {line[:80]!r}")
        return Utterance(str(folder / line), None, None, number)
    try:
        item = ast.literal_eval(line)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise ValueError(f"not a dict of plain values: {line[:80]!r}") from None
    if not isinstance(item, dict):
        raise ValueError(f"not a dict: {line[:80]!r}")
    path = item.get("audio")
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError(f"no audio: {line[:80]!r}")
    speaker = item.get("spk")
    speaker = None if speaker is None else str(speaker)
    if vocab_size is None:
        return Utterance(str(folder / path), None, speaker, number)
    key = next((key for key in UNIT_KEYS if key in item), None)
    if key is None:
        raise ValueError(f"no units of {path}: one of {', '.join(UNIT_KEYS)}")
    return Utterance(str(folder / path), _units(item[key], key, path, vocab_size), speaker, number)


def _units(value: object, key: str, path: str, vocab_size: int) -> np.ndarray:
    try:
        units = np.array([int(unit) for unit in (value.split() if isinstance(value, str) else value)], dtype=np.int64)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{key} of {path} are no units: {str(value)[:60]!r}") from None
    if not len(units):
        raise ValueError(f"{key} of {path} is empty")
    if outside := [int(unit) for unit in units if not 0 <= unit < vocab_size]:
        raise ValueError(f"unit {outside[0]} of {path} is outside [0, {vocab_size})")
    return units


def _why_not(one: Utterance, hop: int | None) -> str | None:
    """What is wrong with an utterance's file, if anything is."""
    if not os.path.isfile(one.audio):
        return f"no such file: {one.audio}"
    if one.units is None or hop is None:
        return None
    try:
        samples = audio.num_samples(one.audio)
    except USER_ERRORS as error:
        return describe(error)
    if abs(len(one.units) * hop - samples) > 2 * hop:
        return f"{len(one.units)} units of {hop} samples do not fit the {samples} samples of {one.audio}"
    return None
