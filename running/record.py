"""What a folder of results was made with: a record beside them, and a journal that says of each result what made it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from running.shard import WHOLE, Shard
from utils.files import require_file, write_json

if TYPE_CHECKING:  # imports torch, which evaluation can be without
    from running.jobs import Job

log = logging.getLogger(__name__)

# What differs between two records, in an error. Digests go by the names of the parts.
_TITLES = {"codebooks": "choice of codebooks", "sha256": "checkpoint"}
ROWS = "results"  # in a record: role -> name -> row


class RunRecord:
    """The record of a folder of results, which refuses to mix those of different systems.

    Beside ``NAME.json`` lies ``journal.NAME.jsonl``: a line for each result that is finished, with what made it, and
    one for each run. So a result is done if its files are there, and the journal does not say that another system made
    them. A shard has a journal of its own; all are read. The record itself changes only with what it says.

    Args:
        path: of the record, a JSON file.
        made_by: what the results follow from, beside their inputs, as plain values by name: digests of weights, facts.
        settings: the recipe's keys that they follow from -> their text.
        notes: what else is kept in the record.
        shard: of the list that this run does.
        is_shared: results of the same weights with other settings may lie in the folder under other names; the record
            is then that of the last run, and the journal tells what made which. Runs wait for each other.

    Raises:
        ValueError: the record or the journal is not what this program writes.
    """

    def __init__(
        self,
        path: Path,
        made_by: Mapping[str, Any],
        *,
        settings: Mapping[str, str],
        notes: Mapping[str, Any],
        shard: Shard = WHOLE,
        is_shared: bool = False,
    ):
        self.path = path
        self.by = _digest({"made_by": dict(made_by), "settings": dict(settings)})
        self.made_by = made_by
        self.settings = settings
        self.notes = notes
        self.shard = shard
        self.is_shared = is_shared
        self._read()
        self._journal: int | None = None

    def _read(self) -> None:
        self.before = read_record(self.path) if self.path.exists() else None
        self.lines, self.is_strict = read_journals(self.path)
        self._seen = _state(self.path)

    # -- one run at a time ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out of the folder: all, or, for a shard, those that do not do another shard of the list.

        Raises:
            ValueError: another run is at work there.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = _open_journal(self.path.with_name(f"journal.{self.path.stem}.jsonl"))
        own = whole
        try:
            is_shard = self.shard.count > 1
            _lock(whole, self.path, shared=is_shard, waits=self.is_shared)
            if is_shard:
                name = f"journal.{self.path.stem}.{self.shard.index}-of-{self.shard.count}.jsonl"
                own = _open_journal(self.path.with_name(name))
                _lock(own, self.path)
            self._journal = own
            if self._seen != _state(self.path):  # another run was at work in between
                self._read()
            yield
        finally:
            self._journal = None
            for file in {whole, own}:
                os.close(file)

    # -- what is done --------------------------------------------------------------------------------------------------

    def is_done(self, job: Job) -> bool:
        """Whether the job's results are there, and this system's."""
        line = self.lines.get(job.name)
        if line is None and (self.is_strict or not job.files()):
            return False
        return (line is None or line["by"] == self.by) and all(map(_holds_something, job.files()))

    def lengths(self) -> dict[str, Sequence[int]]:
        """file -> what ``running.jobs.measure`` said to keep of it."""
        return {line["file"]: line["length"] for line in self.lines.values() if _is_length(line)}

    def rows(self) -> dict[str, Mapping[str, Any]]:
        """name -> its row, of the results that this system made."""
        mine = {name: line.get("row") for name, line in self.lines.items() if line["by"] == self.by}
        return {name: row for name, row in mine.items() if isinstance(row, dict)}

    # -- keeping it ----------------------------------------------------------------------------------------------------

    def begin(self, jobs: Iterable[Job], *, overwrite: bool) -> None:
        """Compare with what is there, and write the record.

        Results of another system are refused; with ``overwrite`` those of ``jobs`` are removed first, so that nothing
        of it ever lies under this record.

        Raises:
            ValueError: the folder holds results that were made with something else.
        """
        jobs = list(jobs)
        differing = self._differing()
        others = [job for job in jobs if self._is_anothers(job, bool(differing))] if differing or self.is_shared else []
        may_share = self.is_shared and all((self.before or {}).get(k) == v for k, v in self.made_by.items())
        if not overwrite and (others or (differing and self.lines and not may_share)):
            raise ValueError(
                f"{self.path.parent} holds outputs of another {' and '.join(differing) or 'run'} (see {self.path}): "
                "choose another folder, or --overwrite"
            )
        for path in (path for job in others for path in job.files()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        if differing:
            self._append({"reset": True})  # what no line tells of was made by the system before
            self.is_strict = True
        content = {**self.notes, **self.made_by, "by": self.by, "settings": dict(self.settings)}
        with locked(self.path.parent):
            now = read_record(self.path) if self.path.exists() else {}
            if "runs" in now and not differing:  # of before there were journals
                content["runs"] = now["runs"]
            if ROWS in now and not differing:
                content[ROWS] = now[ROWS]
            if now != content:
                write_json(self.path, content)

    def add(
        self,
        job: Job,
        *,
        file: str | None = None,
        length: Sequence[int] | None = None,
        row: Mapping[str, Any] | None = None,
    ) -> None:
        """A job is done: its files have their names.

        Args:
            file: its first input, ...
            length: ... and what is to be kept of it.
            row: the result, where it is no file.
        """
        line: dict[str, Any] = {"name": job.name, "by": self.by}
        if length is not None:
            line |= {"file": file, "length": list(length)}
        if row is not None:
            line["row"] = dict(row)
        self.lines[job.name] = line
        self._append(line)

    def keep(self, role: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Let the record tell the rows of a result, under its role: name -> row."""
        with locked(self.path.parent):
            now = read_record(self.path)
            content = {**now, ROWS: {**now.get(ROWS, {}), role: dict(rows)}}
            if now != content:
                write_json(self.path, content)

    def add_run(self, run: Mapping[str, Any]) -> None:
        """What a run cost."""
        self._append({"by": self.by, "run": dict(run)})

    def _is_anothers(self, job: Job, differs: bool) -> bool:
        """Whether results of a job are there that this system did not make."""
        line = self.lines.get(job.name)
        is_own = line["by"] == self.by if line else not (differs or self.is_strict)
        return not is_own and any(map(os.path.exists, job.files()))

    def divide(self, division: str) -> list[str]:
        """Note what list this shard is a part of; returns the shards, of as many, that were parts of another.

        Args:
            division: stands for the names and lengths that were divided.
        """
        self._append({"by": self.by, "shard": str(self.shard), "division": division})
        of_as_many = f"/{self.shard.count}"
        found = {str(line.get("shard")): line for line in _lines(self.path) if "division" in line}
        return [
            shard
            for shard, line in found.items()
            if shard.endswith(of_as_many) and line.get("by") == self.by and line["division"] != division
        ]

    def _differing(self) -> list[str]:
        """What the results that are there were made with, and these are not, in words."""
        if self.before is None:
            return []
        then = self.before
        if "by" not in then:  # a record that was written before there were journals
            keys = [key for key in ("sha256", "tokenizer", "codebooks") if key in then]
            now = {**self.notes, **self.made_by}
            return [_TITLES.get(key, key) for key in keys if then[key] != now.get(key)]
        found = [_TITLES.get(key, key) for key in self.made_by if then.get(key) != self.made_by[key]]
        old = then.get("settings", {})
        keys = [key for key in {**old, **self.settings} if old.get(key) != self.settings.get(key)]
        if keys:
            found.append(f"recipe ({', '.join(f'{k}: {old.get(k)}, now {self.settings.get(k)}' for k in keys[:4])})")
        return found

    def _append(self, line: Mapping[str, Any]) -> None:
        # One write of a whole line at the end of the file, so that a run that is killed tears the last one at most.
        data = (json.dumps(line) + "\n").encode()
        try:
            if os.write(self._journal, data) == len(data):
                return
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a part of it was written
        except OSError as said:
            error = said
        raise OSError(error.errno, f"cannot write the journal there: {error.strerror}", str(self.path.parent)) from None


def read_record(path: str | os.PathLike) -> dict[str, Any]:
    """Raises:
    ValueError: the file is not a JSON object.
    """
    require_file(path, "record")
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not valid JSON: {error}. Restore it, or remove it if all that lies beside it was made as now"
        ) from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} is not a record of a run: a JSON object is expected")
    if not isinstance(record.get("settings", {}), dict) or not isinstance(record.get("runs", []), list):
        raise ValueError(f"{path} is not a record of a run: its settings are no object, or its runs no list")
    return record


def _state(record: Path) -> list[tuple[str, int, int]]:
    """Stands for what a record and its journals hold."""
    found = [(path.name, path.stat()) for path in (*record.parent.glob(f"journal.{record.stem}*.jsonl"), record)
             if path.exists()]  # fmt: skip
    return sorted((name, status.st_size, status.st_mtime_ns) for name, status in found if status.st_size)


def _is_length(line: Mapping[str, Any]) -> bool:
    """Whether a line of a journal tells the length of a file, as ``data.lengths`` gave it."""
    length = line.get("length")
    return isinstance(line.get("file"), str) and isinstance(length, list) and set(map(type, length)) == {int}


def _holds_something(path: str) -> bool:
    """Whether a file is there that is not empty. A folder in its place is no result."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def read_runs(record: Path) -> list[dict[str, Any]]:
    """What each run that made the results of a folder cost.

    Raises:
        ValueError: the file is not a record.
    """
    content = read_record(record)
    runs = [*content.get("runs", []), *(line["run"] for line in _lines(record) if _is_run_of(line, content.get("by")))]
    return [run for run in runs if isinstance(run, dict)]


def _is_run_of(line: Mapping[str, Any], by: str | None) -> bool:
    return "run" in line and line.get("by") == by


def read_journals(record: Path) -> tuple[dict[str, dict[str, Any]], bool]:
    """The last line of each name in a record's journals; and whether a result without a line is another system's."""
    named = {}
    is_strict = False
    for line in _lines(record):
        is_strict = is_strict or "reset" in line
        if isinstance(line.get("name"), str) and isinstance(line.get("by"), str):
            named[line["name"]] = line
    return named, is_strict


def _lines(record: Path) -> Iterator[dict[str, Any]]:
    """Of all journals of a record. Torn lines, as a kill leaves them, are left out."""
    for path in sorted(record.parent.glob(f"journal.{record.stem}*.jsonl")):
        with open(path, encoding="utf-8", errors="replace") as file:
            for text in file:
                with contextlib.suppress(ValueError, RecursionError):
                    line = json.loads(text)
                    if isinstance(line, dict):
                        yield line


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Change files of a folder while no other process that asks for the same does."""
    file = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a disk that knows no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _open_journal(path: Path) -> int:
    """For appending, behind a whole line."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")
    return file


def _lock(file: int, record: Path, *, shared: bool = False, waits: bool = False) -> None:
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        if waits:
            log.info("another run is at work in %s: waiting for it", record.parent)
            fcntl.flock(file, kind)
            return
        raise ValueError(
            f"another run is at work in {record.parent}: wait for it, or choose another folder (several runs on one "
            "list take a --shard each)"
        ) from None
    except OSError:  # a disk that knows no locks
        return


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
