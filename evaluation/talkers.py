"""Whose voice each file is to give: the talkers that ``evaluate.py --cluster`` draws its intervals over."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from data.scp import read_list
from data.speakers import read_index
from evaluation.items import Item
from utils.errors import first_few

TALKER = "talker"
LIST = "utt2spk"  # as Kaldi's folders of lists have it, a line a file: name talker
_UTTERANCE = re.compile(r"(?P<talker>[^-_]+)-(?P<chapter>[^-_]+)-[^-_]+")  # LibriSpeech's name of one
_MIXTURE = re.compile(rf"{_UTTERANCE.pattern}_(?P<second>[^-_]+)-[^-_]+-[^-_]+")  # Libri2Mix's: of s1, then of s2
_WAYS = (
    f"a list {LIST} (lines of a name and its talker) in the folder of lists, or a speaker index beside it "
    "(LISTS.json); or give --cluster such a list, or a pattern with one group around the talker in a file's name, as "
    "'^([^-]+)-'"
)


def read_talkers(how: str, items: Sequence[Item], lists: str | os.PathLike) -> dict[str, str]:
    """name -> the target's talker, of all items.

    Args:
        how: ``talker``: from the list ``utt2spk`` in the folder of lists; else from the speaker index beside the
            folder of lists or of the targets' own, as data.prepare.synthetic leaves it; else from the targets' names,
            if they are LibriSpeech's or Libri2Mix's. Otherwise see ``talkers_of_names``.
        lists: the folder of lists, or the list, that the items are of.

    Raises:
        OSError, ValueError: a talker is not known, there is one alone, or a list or a pattern that is none.
    """
    names = [item.name for item in items]
    if how != TALKER:
        return talkers_of_names(how, names)
    lists = Path(lists)
    if (lists / LIST).is_file():
        found = read_list(lists / LIST, paths=False).entries
    else:
        found = _of_targets(items, lists)
    return _checked(how, found, names, f"it takes {_WAYS}")


def talkers_of_names(how: str, names: Sequence[str]) -> dict[str, str]:
    """name -> talker, from a list of both or by a pattern.

    Args:
        how: a file whose lines are a name and its talker, or a regular expression with one group around what tells
            the talker, which is searched for in each name.

    Raises:
        OSError, ValueError: as ``read_talkers``.
    """
    if os.path.isfile(how):
        return _checked(how, read_list(how, paths=False).entries, names, "that list lacks them")
    try:
        pattern = re.compile(how)
    except re.error as error:
        raise ValueError(f"--cluster {how}: no such file, and no regular expression ({error})") from error
    if pattern.groups != 1:
        raise ValueError(
            f"--cluster {how}: no such file, and a pattern needs one group, ( ), around the talker; it has "
            f"{pattern.groups}. It takes {TALKER!r}, a list or a pattern, as '^([^-]+)-'"
        )
    matches = ((name, pattern.search(name)) for name in names)
    found = {name: match[1] for name, match in matches if match and match[1]}
    return _checked(how, found, names, "the pattern finds none in them")


def talkers_of_rows(how: str, tables: Mapping[str, Mapping[str, Mapping]]) -> dict[str, str]:
    """name -> talker, for a comparison of evaluated folders.

    Args:
        how: ``talker``: as the folders were evaluated with; otherwise see ``talkers_of_names``.
        tables: folder -> name -> row, of the names to compare.

    Raises:
        OSError, ValueError: as ``read_talkers``; or two folders that tell of different talkers.
    """
    names = list(dict.fromkeys(name for rows in tables.values() for name in rows))
    if how != TALKER:
        return talkers_of_names(how, names)
    found: dict[str, str] = {}
    for folder, rows in tables.items():
        if lacking := [name for name, row in rows.items() if TALKER not in row]:
            raise ValueError(
                f"--cluster {how}: {folder} tells no talkers ({first_few(lacking, 3)}). Evaluate it with --cluster, by "
                "which nothing is scored again; or give a list or a pattern, as '^([^-]+)-'"
            )
        for name, row in rows.items():
            if found.setdefault(name, row[TALKER]) != row[TALKER]:
                raise ValueError(f"--cluster {how}: of {name}, {folder} tells another talker than the folders before")
    return _checked(how, found, names, "")


def _checked(how: str, found: Mapping[str, str], names: Collection[str], why: str) -> dict[str, str]:
    if lacking := [name for name in names if name not in found]:
        raise ValueError(
            f"--cluster {how}: the talkers of {len(lacking)} of {len(names)} files are not known "
            f"({first_few(lacking, 3)}): {why}"
        )
    talkers = {name: found[name] for name in names}
    if len(set(talkers.values())) == 1:
        raise ValueError(
            f"--cluster {how}: all files are of one talker, {next(iter(talkers.values()))}, of which no interval over "
            "talkers can be made; without --cluster intervals are over files"
        )
    return talkers


def _of_targets(items: Sequence[Item], lists: Path) -> dict[str, str]:
    """name -> talker of the target's file, where an index or its name tells."""
    targets = {item.name: item.paths["target"] for item in items if "target" in item.paths}
    own = Path(f"{lists}.json") if lists.is_dir() else lists.with_suffix(".json")
    indices = dict.fromkeys([own, *(Path(f"{path.parent.parent}.json") for path in targets.values())])
    talkers = {file: talker for index in indices if index.is_file() for file, talker in _entries(index)}
    found = {name: talkers.get(os.path.realpath(path)) or _by_its_name(path) for name, path in targets.items()}
    return {name: talker for name, talker in found.items() if talker}


def _entries(index: Path) -> Iterator[tuple[str, str]]:
    """(file, talker) of a speaker index."""
    try:
        speakers = read_index(index)
    except ValueError as error:  # anything may be called so
        raise ValueError(f"--cluster {TALKER} looks into {index}, and {error}. Otherwise it takes {_WAYS}") from error
    for talker, files in speakers.items():
        for file in files:
            yield os.path.realpath(file), talker


def _by_its_name(path: Path) -> str | None:
    """The talker of ``TALKER/CHAPTER/TALKER-CHAPTER-UTTERANCE.flac``, or of a mixture's file in ``s1`` or ``s2``."""
    if (found := _MIXTURE.fullmatch(path.stem)) and path.parent.name in ("s1", "s2"):
        return found["talker" if path.parent.name == "s1" else "second"]
    if (found := _UTTERANCE.fullmatch(path.stem)) and path.parts[-3:-1] == (found["talker"], found["chapter"]):
        return found["talker"]
    return None
