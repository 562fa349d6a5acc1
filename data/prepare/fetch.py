"""Fetching one file over HTTP, so that a transfer that was cut off goes on, and a file is what was recorded of it."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import requests
from tqdm import tqdm

from utils.files import file_digest, write_json

_ATTEMPTS = 4  # in a row that bring nothing, with 1, 2, 4, ... seconds between them
_TIMEOUT = 30.0  # seconds without a byte after which a transfer counts as stopped


class Ledger:
    """``sha256.json`` in ``root``: digest, size in bytes and address of each file, by its path below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "sha256.json"
        try:
            self.entries: dict[str, dict] = json.loads(self.path.read_text()) if self.path.exists() else {}
            if not all(re.fullmatch("[0-9a-f]{64}", entry["sha256"]) for entry in self.entries.values()):
                raise ValueError("a digest is not 64 hexadecimal digits")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{self.path} is damaged ({error}): delete it, and it is made again") from error

    def check(self, path: Path, *, address: str | None) -> str:
        """Compare a file with its entry, or make one; ``address`` is None where the file was put there by hand.

        Returns:
            the file's SHA-256.

        Raises:
            ValueError: the file is not the one that was recorded.
        """
        name = path.relative_to(self.root).as_posix()
        digest = file_digest(path)
        recorded = self.entries.get(name, {}).get("sha256", digest)
        if recorded != digest:
            raise ValueError(
                f"{path} has the SHA-256 {digest}, but {self.path} records {recorded}. Delete the file, and the next "
                f"run fetches it again; or, if this is the file you want, delete the entry {name!r} from the record"
            )
        if name not in self.entries:
            self.entries[name] = {"sha256": digest, "size": path.stat().st_size, "address": address}
            self._write()
        return digest

    def forget(self, path: Path) -> None:
        self.entries.pop(path.relative_to(self.root).as_posix(), None)
        self._write()

    def _write(self) -> None:
        write_json(self.path, dict(sorted(self.entries.items())))


def fetch_file(address: str, path: Path, ledger: Ledger) -> str:
    """Fetch one file, unless it is there, and check it; returns its SHA-256. Raises OSError and ValueError."""
    if path.exists():
        return ledger.check(path, address=None)
    path.parent.mkdir(parents=True, exist_ok=True)
    ResumingDownloader(path)(address)
    return ledger.check(path, address=address)


def file_size(address: str) -> int | None:
    """Length of a file in bytes, where the server tells."""
    try:
        response = requests.head(address, headers={"Accept-Encoding": "identity"}, timeout=10, allow_redirects=True)
        return int(response.headers["Content-Length"]) if response.ok else None
    except (requests.RequestException, KeyError, ValueError):
        return None


class Interrupted(Exception):
    """The transfer stopped, or has to begin again: worth another attempt."""


_PASSING = (Interrupted, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class ResumingDownloader:
    """A downloader over HTTP that goes on where an earlier one stopped, in this run or another.

    The bytes gather in ``target`` + ``.part``; ``.part.json`` beside it says which version of the file they belong to
    (ETag, date, length). They are continued if the server sends the rest of that version, and dropped if it does not.

    Args:
        target: where the file belongs in the end, in a folder that is there; the errors name it.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.part = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")

    @property
    def held(self) -> int:
        """How many bytes there are to go on from."""
        return self.part.stat().st_size if self.part.exists() else 0

    def __call__(self, url: str) -> None:
        """Write what ``url`` holds to the target.

        Raises:
            OSError: the address cannot be reached or has no such file; the message names it and the way out.
        """
        failures = 0
        while True:
            before = self.held
            try:
                self._get_rest(url)
                break
            except _PASSING as error:
                failures = 0 if self.held > before else failures + 1
                if failures >= _ATTEMPTS:
                    raise OSError(self._way_out(url, str(error))) from error
                time.sleep(2 ** max(failures - 1, 0))
            except requests.RequestException as error:
                raise OSError(self._way_out(url, str(error))) from error
        os.replace(self.part, self.target)
        self._discard()

    def _get_rest(self, url: str) -> None:
        version = self._read_note(url)
        held = self.held if version else 0
        if not version or held != version["size"]:  # equal: it was stopped after the last byte
            headers = {"Accept-Encoding": "identity"}  # ranges count the bytes of the file
            if version and held:
                headers |= {"Range": f"bytes={held}-", "If-Range": version["etag"] or version["modified"]}
            with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
                self._refuse_errors(response, url)
                version = self._begin(response, url, version if held else None)
                self._receive(response, version["size"])
        if version["size"] is not None and self.held != version["size"]:
            raise Interrupted(f"{self.held} of {version['size']} bytes arrived")
        if version["sha256"]:
            digest = file_digest(self.part)
            if digest != version["sha256"]:
                self._discard()
                reason = f"the server names the SHA-256 {version['sha256']}, but that of what it sent is {digest}"
                raise OSError(self._way_out(url, reason))

    def _refuse_errors(self, response: requests.Response, url: str) -> None:
        reason = f"{response.status_code} {response.reason}"
        if response.status_code in (429, 500, 502, 503, 504):
            raise Interrupted(reason)
        if response.status_code >= 400 and response.status_code != 416:
            raise OSError(self._way_out(url, reason))
        if response.ok and response.headers.get("Content-Type", "").startswith("text/html"):
            raise OSError(self._way_out(url, "a web page came instead of the file: of a login or a proxy?"))

    def _begin(self, response: requests.Response, url: str, version: dict | None) -> dict:
        """Keep the part or drop it, as the response says; returns the version that the bytes to come belong to."""
        offered = _version(response, url)
        if response.status_code == 200:  # nothing is held, or the server ignores ranges, or its file has changed
            self._discard()
            self.note.write_text(json.dumps(offered))
            return offered
        if response.status_code == 206 and version and _first_byte(response) == self.held:
            # A server may leave out what If-Range has compared already.
            if all(offered[k] in (None, version[k]) for k in version):
                return version
        self._discard()
        raise Interrupted("the server has another file now than the one begun, which was dropped")

    def _receive(self, response: requests.Response, size: int | None) -> None:
        with (
            open(self.part, "ab") as file,
            tqdm(desc=self.target.name, total=size, initial=self.held, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for chunk in response.iter_content(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())

    def _read_note(self, url: str) -> dict | None:
        """The version that the part belongs to, if it is known well enough to go on with it."""
        try:
            note = json.loads(self.note.read_text())
            usable = note["address"] == url and note["size"] is not None and (note["etag"] or note["modified"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return note if usable else None

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _way_out(self, url: str, reason: str) -> str:
        kept = f" {self.held} bytes are kept: run the command again to go on from there." if self.held else ""
        return f"cannot fetch {url} ({reason}).{kept} Or fetch it elsewhere and put it at {self.target}"


def _version(response: requests.Response, url: str) -> dict:
    """What tells one version of a file from another. The hub names the SHA-256 of large files before it redirects."""
    headers = response.headers
    etag = headers.get("ETag")
    linked = [r.headers.get("X-Linked-ETag", "").strip('"') for r in (*response.history, response)]
    total = headers.get("Content-Range", "").rpartition("/")[2] if response.status_code == 206 else None
    size = headers.get("Content-Length") if response.status_code == 200 else total
    return {
        "address": url,
        "size": int(size) if size and size.isdigit() else None,
        "etag": etag if etag and not etag.startswith("W/") else None,  # a weak one is no proof of equal bytes
        "modified": headers.get("Last-Modified"),
        "sha256": next((digest for digest in linked if re.fullmatch("[0-9a-f]{64}", digest)), None),
    }


def _first_byte(response: requests.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None
