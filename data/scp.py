"""Lists of named audio files, in the ``name path`` form of Kaldi's scp files, matched by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from utils.errors import first_few
from utils.files import portable, write_text

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus")


def read_scp(path: str | os.PathLike) -> dict[str, Path]:
    """Read a list. Each line is ``name path``; the path may hold spaces, and is absolute or relative to the list.

    Returns:
        name -> path, in the order of the file.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: a line without a path, a name that occurs twice, or an empty list.
    """
    entries, problems = _parse(Path(path))
    _raise_for(problems)
    return entries


def read_aligned(lists: Mapping[str, str | os.PathLike]) -> list[tuple[str, dict[str, Path]]]:
    """Read several lists that name the same utterances, and match them by name, whatever their order.

    Args:
        lists: role (``"mixture"``, ``"enrolment"``, ...) -> path of the list. The first list gives the order.

    Returns:
        (name, {role: audio path}) for every name.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: names that are missing from a list, are there twice or are in no other list. One error shows
            the first few of each kind.
    """
    problems: list[str] = []
    tables: dict[str, dict[str, Path]] = {}
    for role, path in lists.items():
        tables[role], found = _parse(Path(path))
        problems += found
    first_role = next(iter(lists))
    reference = tables[first_role]
    for role, table in tables.items():
        missing = [name for name in reference if name not in table]
        extra = [name for name in table if name not in reference]
        if missing:
            problems.append(f"{lists[role]}: {first_few(missing)} missing, but in {lists[first_role]}")
        if extra:
            problems.append(f"{lists[role]}: {first_few(extra)} not in {lists[first_role]}")
    _raise_for(problems)
    return [(name, {role: table[name] for role, table in tables.items()}) for name in reference]


def write_scp(path: str | os.PathLike, entries: Mapping[str, str | os.PathLike]) -> None:
    """Write a list; paths inside the list's own folder are written relative to it, so that the folder can be moved."""
    path = Path(path)
    lines = []
    for name, audio in entries.items():
        if not name or any(c.isspace() for c in name):
            raise ValueError(f"a name in {path} must not be empty or hold white space: {name!r}")
        lines.append(f"{name} {portable(audio, path.parent)}\n")
    write_text(path, "".join(lines))


def output_path(folder: str | os.PathLike, name: str, suffix: str = ".wav") -> Path:
    """Where what is made for a name in a list is kept: the name, less an audio suffix, in ``folder``.

    Raises:
        ValueError: the name leads out of the folder.
    """
    folder = Path(folder)
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"the name {name!r} in the lists would be written outside {folder}")
    stem, ending = os.path.splitext(name)
    return folder / ((stem if ending.lower() in AUDIO_SUFFIXES else name) + suffix)


def _parse(path: Path) -> tuple[dict[str, Path], list[str]]:
    if not path.is_file():
        raise FileNotFoundError(f"no such list: {path}")
    entries: dict[str, Path] = {}
    malformed, duplicate = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        name, *rest = line.strip().split(maxsplit=1)  # a space or a tab; the path may hold more of them
        if not rest:
            malformed.append(f"line {number} ({line.strip()!r})")
        elif name in entries:
            duplicate.append(name)
        else:
            entries[name] = path.parent / rest[0]
    problems = []
    if malformed:
        problems.append(f"{path}: {first_few(malformed)} not of the form 'name path'")
    if duplicate:
        problems.append(f"{path}: {first_few(duplicate)} more than once")
    if not entries and not problems:
        problems.append(f"{path}: the list is empty")
    return entries, problems


def _raise_for(problems: list[str]) -> None:
    if problems:
        raise ValueError("the lists do not fit together:\n  " + "\n  ".join(problems))
