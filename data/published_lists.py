"""The ten-field list of the published mixtures before two microphones (MC_GRID, arXiv 2111.04063),

    mixture target enrolment face azimuth distance azimuth distance gender gender

whose paths are relative to the data's folder.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from data.plain_text import numbered_lines

FIELDS = 10
_TARGET = re.compile(r"\d+_RIR\d+_(.+)_target")


@dataclass(frozen=True)
class Published:
    """A line of a ten-field list, with whole paths.

    Attributes:
        name: of the mixture's file.
        mixture, target, enrolment, visual: files. That of the face need not be there.
        enrolment_key, target_key: under which their voiceprints are kept; a target of another name has none.
    """

    name: str
    mixture: str
    target: str
    enrolment: str
    visual: str

    @property
    def enrolment_key(self) -> str:
        folder, file = os.path.split(self.enrolment)
        return f"{os.path.basename(folder)}_{file}"

    @property
    def target_key(self) -> str | None:
        found = _TARGET.fullmatch(os.path.splitext(os.path.basename(self.target))[0])
        return found and f"{found[1]}.wav"


def read_published(path: str | os.PathLike, *, data_root: str | os.PathLike | None = None) -> list[Published]:
    """A ten-field list.

    Args:
        data_root: what its paths are relative to; None: its own folder.

    Raises:
        OSError: there is no such list.
        ValueError: a line with another number of fields, a mixture that occurs twice, or an empty list.
    """
    root = os.path.dirname(os.fspath(path)) if data_root is None else os.fspath(data_root)
    if not os.path.isdir(root or "."):
        raise FileNotFoundError(f"no such folder: {root} (data_root)")
    found: dict[str, Published] = {}
    for number, line in numbered_lines(path):
        fields = line.split()
        if len(fields) != FIELDS:
            raise ValueError(
                f"{path}, line {number}: {len(fields)} fields, {FIELDS} are needed: mixture target enrolment face and "
                "six more; or give a folder of lists"
            )
        name = os.path.basename(fields[0])
        if name in found:
            raise ValueError(f"{path}, line {number}: {name} more than once")
        found[name] = Published(name, *(os.path.join(root, field) for field in fields[:4]))
    if not found:
        raise ValueError(f"{path}: the list is empty")
    return list(found.values())


def is_published(path: str | os.PathLike) -> bool:
    """Whether a line of a list has ten fields, of which the fifth to eighth are numbers."""
    for _, line in numbered_lines(path):
        fields = line.split()
        if len(fields) == FIELDS and all(_is_number(field) for field in fields[4:8]):
            return True
    return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
