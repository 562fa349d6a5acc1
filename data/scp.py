"""Lists of named files or values, in the ``name path`` form of Kaldi's scp files, matched by name."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data.plain_text import numbered_lines, why_no_path
from utils.errors import first_few
from utils.files import portable, write_text

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus")
_CONTROL = re.compile("[\0-\x1f\x7f\x85\u2028\u2029\ufeff]")
_SHOWN = 20  # lines of one error
_LONGEST_NAME = 255  # bytes of a file's name on the usual disks


@dataclass(frozen=True)
class Listed:
    """What a list holds.

    Attributes:
        entries: name -> path or value, in the order of the list.
        problems: name -> why its entry cannot be used, with list and line; it is in no entry then.
    """

    entries: dict[str, str]
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Aligned:
    """What several lists hold together.

    Attributes:
        items: (name, {role: path or value}) in the order of the first list; a role whose list is not there is left out.
        problems: name -> why one of its entries cannot be used; it is in no item then.
    """

    items: list[tuple[str, dict[str, str]]]
    problems: dict[str, str]


def read_list(path: str | os.PathLike, *, paths: bool = True) -> Listed:
    """Read a list. Each line is ``name path`` or ``name value``; the first white space ends the name.

    Paths may hold spaces, and are absolute or relative to the list. Nothing in a list is run or expanded. Empty lines
    and those that begin with ``#`` are skipped.

    Args:
        paths: what follows the names are paths, of audio or of arrays; otherwise it is taken as it stands.

    Raises:
        OSError: there is no such list, or it may not be read.
        ValueError: another encoding than UTF-8, a line with a name alone, a name that occurs twice, or an empty list.
    """
    listed, problems = _parse(path, paths)
    raise_for(problems)
    return listed


def read_scp(path: str | os.PathLike) -> dict[str, Path]:
    """The paths of a list all of whose entries can be used: name -> path, in the order of the list.

    Raises:
        OSError, ValueError: as ``read_list``; or an entry is a command, or something else that is not taken as a path.
    """
    listed = read_list(path)
    raise_for(listed.problems.values())
    return {name: Path(entry) for name, entry in listed.entries.items()}


def align(
    lists: Mapping[str, str | os.PathLike], *, optional: Collection[str] = (), values: Collection[str] = ()
) -> Aligned:
    """Read several lists that name the same utterances, and match them by name, whatever their order.

    Args:
        lists: role (``"mixture"``, ``"enrolment"``, ...) -> path of the list. The first list gives the order.
        optional: roles whose list may be missing; one that is there must name the same utterances.
        values: roles whose entries are no paths but values, such as text.

    Raises:
        OSError: a list is missing, or may not be read.
        ValueError: names that are missing from a list, are there twice or are in no other list, and whatever else
            ``read_list`` refuses. One error shows the first few of each kind.
    """
    problems: list[str] = []
    tables: dict[str, Listed] = {}
    for role, path in lists.items():
        if role in optional and not os.path.lexists(path):
            continue
        tables[role], found = _parse(path, role not in values)
        problems += found
    if not tables:
        raise FileNotFoundError(f"none of these lists is there: {', '.join(str(path) for path in lists.values())}")
    broken: dict[str, str] = {}
    for table in tables.values():
        for name, reason in table.problems.items():
            broken[name] = f"{broken[name]}; {reason}" if name in broken else reason
    first_role = next(iter(tables))
    names = {role: table.entries.keys() | table.problems.keys() for role, table in tables.items()}
    for role in tables:
        if missing := names[first_role] - names[role]:
            missing = [name for name in (*tables[first_role].entries, *tables[first_role].problems) if name in missing]
            problems.append(f"{lists[role]}: {first_few(missing)} missing, but in {lists[first_role]}")
        if extra := names[role] - names[first_role]:
            extra = [name for name in (*tables[role].entries, *tables[role].problems) if name in extra]
            problems.append(f"{lists[role]}: {first_few(extra)} not in {lists[first_role]}")
    raise_for(problems)
    entries = {role: table.entries for role, table in tables.items()}
    items = [
        (name, {role: table[name] for role, table in entries.items()})
        for name in entries[first_role]
        if name not in broken
    ]
    return Aligned(items, broken)


def read_aligned(
    lists: Mapping[str, str | os.PathLike], *, optional: Collection[str] = ()
) -> list[tuple[str, dict[str, Path]]]:
    """The paths of several lists all of whose entries can be used: (name, {role: path}) for every name. See ``align``.

    Raises:
        OSError, ValueError: as ``align``; or an entry is a command, or something else that is not taken as a path.
    """
    aligned = align(lists, optional=optional)
    raise_for(aligned.problems.values())
    return [(name, {role: Path(path) for role, path in entry.items()}) for name, entry in aligned.items]


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
    if _leads_out(name):
        raise ValueError(f"the name {name!r} in the lists would be written outside {folder}")
    return Path(folder) / (_stem(name) + suffix)


def output_paths(folder: str | os.PathLike, names: Iterable[str], suffix: str = ".wav") -> dict[str, Path]:
    """``output_path`` of all names of a list.

    Raises:
        ValueError: names that lead out of the folder, that cannot be names of files, or of which two would be written
            to one file, or one where the other needs a folder. One error shows the first few of each kind.
    """
    outside, unfit, owners = [], [], {}
    stems: dict[str, str] = {}
    for name in names:
        if _leads_out(name):
            outside.append(repr(name))
        elif reason := _why_no_file_name(stem := _stem(name), suffix):
            unfit.append(f"{name!r} ({reason})")
        else:
            stems[name] = stem
            owners.setdefault(stem, []).append(name)
    problems = []
    if outside:
        problems.append(f"outside {folder}: {first_few(outside)}")
    if unfit:
        problems.append(f"not names of files: {first_few(unfit)}")
    same = [" and ".join(group) for group in owners.values() if len(group) > 1]
    folders = {parent for stem in owners if "/" in stem for parent in _parents(stem)}
    same += [f"{owners[parent[: -len(suffix)]][0]} and what is below {parent}/" for parent in sorted(folders)
             if parent.endswith(suffix) and parent[: -len(suffix)] in owners]  # fmt: skip
    alike = Counter(key := [unicodedata.normalize("NFC", stem).casefold() for stem in owners])
    if len(alike) < len(owners) and _ignores_case(Path(folder)):
        twins = [owners[stem][0] for stem, folded in zip(owners, key, strict=True) if alike[folded] > 1]
        same.append(f"{first_few(twins)} on this disk, which takes large and small letters for the same")
    if same:
        problems.append(f"written to the same file: {first_few(same)}")
    if problems:
        raise ValueError("names in the lists do not fit:\n  " + "\n  ".join(problems))
    root = Path(folder)
    return {name: root / (stem + suffix) for name, stem in stems.items()}


def _stem(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return os.path.normpath(stem if ending.lower() in AUDIO_SUFFIXES else name)


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in name and ".." in name.split("/")


def _why_no_file_name(stem: str, suffix: str) -> str | None:
    if _CONTROL.search(stem):
        return "it holds control characters"
    if stem == ".":
        return "it would be a folder"
    if stem.endswith(".") and not stem.rpartition("/")[2].strip("."):  # what follows would be no ending
        return "it is dots alone"
    if (
        len(stem) > _LONGEST_NAME // 4
        and max(len(os.fsencode(part)) for part in f"{stem}{suffix}".split("/")) > _LONGEST_NAME
    ):
        return f"longer than {_LONGEST_NAME} bytes"
    return None


def _parents(stem: str) -> list[str]:
    parts = stem.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _ignores_case(folder: Path) -> bool:
    """Whether the disk of a folder, which need not be there yet, takes ``a`` and ``A`` for the same name."""
    for place in (folder.absolute(), *folder.absolute().parents):
        other = place.with_name(place.name.swapcase()) if place.name else place
        if place.exists() and other != place:
            return other.exists() and other.samefile(place)
    return False


def _parse(path: str | os.PathLike, paths: bool) -> tuple[Listed, list[str]]:
    entries: dict[str, str] = {}
    unusable: dict[str, str] = {}
    malformed, duplicate = [], []
    folder = os.path.dirname(os.fspath(path))
    below = os.path.join(folder, "")
    for number, line in numbered_lines(path):
        name, *rest = line.split(maxsplit=1)  # a space or a tab; the path may hold more of them
        if not rest:
            malformed.append(f"line {number} ({line!r})")
        elif name in entries or name in unusable:
            duplicate.append(name)
        elif not paths:
            entries[name] = rest[0]
        elif reason := why_no_path(rest[0], folder):
            unusable[name] = f"{path}, line {number}: {rest[0]!r}: {reason}"
        else:
            entries[name] = rest[0] if rest[0].startswith("/") else below + rest[0]
    problems = []
    if malformed:
        problems.append(f"{path}: {first_few(malformed)} not of the form 'name path'")
    if duplicate:
        problems.append(f"{path}: {first_few(duplicate)} more than once")
    if not entries and not unusable and not problems:
        problems.append(f"{path}: the list is empty")
    return Listed(entries, unusable), problems


def raise_for(problems: Collection[str]) -> None:
    """One error for all that is wrong with lists, if anything is."""
    if problems:
        lines = list(problems)
        more = [f"and {len(lines) - _SHOWN} more"] * (len(lines) > _SHOWN)
        raise ValueError("the lists do not fit together:\n  " + "\n  ".join(lines[:_SHOWN] + more))
