"""What a folder of results was made with, and what that cost: a JSON file beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.files import file_digest, write_json  # noqa: F401 - the digest is asked for here too


class RunRecord:
    """The record of a folder, which refuses to mix results of different systems.

    Args:
        path: of the JSON file.
        made_with: what decides the results, beside their inputs.
        compared: keys of it in which all results of the folder must agree -> what they are called in an error.
        is_used: there are results in the folder, which are to stay.

    Raises:
        ValueError: the folder holds results that were made with something else, or the record is no JSON.
    """

    def __init__(
        self, path: str | os.PathLike, made_with: Mapping[str, Any], *, compared: Mapping[str, str], is_used: bool
    ):
        self.path = Path(path)
        self._record = {**made_with, "runs": []}
        if is_used and self.path.exists():
            then = read_record(self.path)
            if differing := [key for key in compared if then.get(key) != made_with[key]]:
                what = " and ".join(compared[key] for key in differing)
                raise ValueError(
                    f"{self.path.parent} holds outputs of another {what} (see {self.path}): choose another folder, "
                    "or --overwrite"
                )
            self._record["runs"] = then.get("runs", [])
        write_json(self.path, self._record)

    def add_run(self, run: Mapping[str, Any]) -> None:
        """Append what a run cost."""
        self._record["runs"].append(dict(run))
        write_json(self.path, self._record)


def read_record(path: str | os.PathLike) -> dict[str, Any]:
    """Raises:
    ValueError: the file is not a JSON object.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} is not a record of a run: a JSON object is expected")
    return record
