"""Fetch the public files: the released weights, the Libri2Mix test sets, LibriSpeech's training folders.

    python -m data.prepare.download --output public --what weights testsets librispeech

A download that was cut off goes on where it stopped. A file gets its name when it is complete; its SHA-256 is kept in
``sha256.json`` and compared in every run. An archive is unpacked beside its folder, which is renamed when it is
complete; a second run does nothing, and the archives may be deleted. Where an address cannot be reached, the error says
where to put the file, and a file put there is used.

Three parts, in this order: the command and its list of files, the transfer of one file, the unpacking of an archive.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import sys
import tarfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import filelock
import huggingface_hub
import pooch
import requests
from huggingface_hub import constants
from tqdm import tqdm

_HUB = "https://huggingface.co"
_TSELM = f"{_HUB}/Beilong/TSELM/resolve/main"
_LIBRI2MIX = f"{_HUB}/datasets/Beilong/libri2mix_clean_target/resolve/main"
_LIBRISPEECH = "https://www.openslr.org/resources/12"
_VOCODER = "hifigan-wavlm-l1-3-7-18-23-k1000-LibriTTS.tar.gz"  # six layers all the same: the name drops the 12
_SETTINGS = ("config.json", "preprocessor_config.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that the hub has
_MARK = ".unpacked-from.sha256"  # in an unpacked folder: the digest of its archive


@dataclass(frozen=True)
class Item:
    """One thing to fetch to ``place``, below the output folder: a file, an archive's content, a model on the hub."""

    name: str
    group: str
    source: str  # an address, or a repository on the Hugging Face hub
    place: str
    key: str | None = None  # what recipes call it
    holds: str | None = None  # what lies in the folder that is meant, where an archive has folders in folders

    @property
    def on_hub(self) -> bool:
        return "://" not in self.source

    @property
    def is_archive(self) -> bool:
        return self.source.endswith(".tar.gz")

    def download(self, root: Path) -> Path:
        """Where the file, the archive or the model goes."""
        return root / "archives" / PurePosixPath(self.source).name if self.is_archive else root / self.place


ITEMS = (
    Item("wavlm", "weights", "microsoft/wavlm-large", "wavlm-large", "wavlm_path"),
    Item("kmeans", "weights", f"{_TSELM}/kmeans_ckpt/kmeans_wavlm_ckpt.tar.gz", "kmeans", "kmeans_path", "*_L1.pt"),
    Item("vocoder", "weights", f"{_TSELM}/backend_ckpt/{_VOCODER}", "hifi_gan", "hifi_gan_path", "generator.ckpt"),
    Item("checkpoint", "weights", f"{_TSELM}/model_ckpt/tselm_l.pth", "tselm_l.pth", "checkpoint"),
    Item("dev", "testsets", f"{_LIBRI2MIX}/libri2mix_dev.tar.gz", "libri2mix_dev", holds="mix_clean"),
    Item("test", "testsets", f"{_LIBRI2MIX}/libri2mix_test.tar.gz", "libri2mix_test", holds="mix_clean"),
    Item("train-clean-100", "librispeech", f"{_LIBRISPEECH}/train-clean-100.tar.gz", "train-clean-100"),
    Item("train-clean-360", "librispeech", f"{_LIBRISPEECH}/train-clean-360.tar.gz", "train-clean-360"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 where something could not be fetched; the next run goes on from there."""
    groups: dict[str, list[str]] = {}
    for item in ITEMS:
        groups.setdefault(item.group, []).append(item.name)
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare.download",
        description="Fetch the public files, check and unpack them. A run that was cut off goes on where it stopped; "
        "what is complete is not fetched again. "
        + " ".join(f"{group} is {', '.join(names)}." for group, names in groups.items()),
    )
    names = [*groups, *(item.name for item in ITEMS)]
    parser.add_argument("--output", required=True, metavar="DIR", help="everything goes below this folder")
    parser.add_argument("--what", nargs="+", required=True, metavar="NAME", choices=names, help=", ".join(names))
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="http(s)://host[/path] in place of the scheme and host of each address. For models on the hub, and files "
        "at huggingface.co, the environment variable HF_ENDPOINT names a mirror",
    )
    args = parser.parse_args(argv)
    try:
        _run([item for item in ITEMS if {item.name, item.group} & set(args.what)], Path(args.output), args.mirror)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(items: Sequence[Item], root: Path, mirror: str | None) -> None:
    if mirror and not (urlsplit(mirror).scheme in ("http", "https") and urlsplit(mirror).netloc):
        raise ValueError(f"--mirror must be http://host[/path] or https://host[/path], got {mirror!r}")
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    try:
        # Two runs that append to one part would mix its bytes.
        with filelock.FileLock(root / ".download.lock", timeout=0):
            ledger = Ledger(root)
            _announce([item for item in items if not _is_there(item, root)], root, mirror)
            for item in items:
                _obtain(item, root, ledger, mirror)
    except filelock.Timeout as error:
        raise ValueError(f"another run is fetching into {root}: wait for it to end, or give another folder") from error
    _report(items, root)


def _announce(items: Sequence[Item], root: Path, mirror: str | None) -> None:
    """Say how much there is to fetch, where the servers tell, and refuse what the disk cannot hold."""
    total, unknown = 0, 0
    for item in items:
        size = _hub_size(item) if item.on_hub else _size(_address(item, mirror))
        print(f"{item.name}: {_readable(size)} from {_address(item, mirror)}")
        part = _part(item.download(root))
        total += max(0, (size or 0) - (part.stat().st_size if part.exists() else 0))
        unknown += size is None
    free = shutil.disk_usage(root).free
    if items:
        more = f" and {unknown} of unknown size" if unknown else ""
        print(f"to fetch: {_readable(total)}{more}; free in {root}: {_readable(free)}", flush=True)
    if total > free:
        raise ValueError(f"{_readable(total)} to fetch, but {root} has {_readable(free)} free: give another folder")


def _obtain(item: Item, root: Path, ledger: Ledger, mirror: str | None) -> None:
    download, place = item.download(root), root / item.place
    if item.on_hub:
        fetch_model(item.source, place, ledger)
    elif not item.is_archive:
        fetch_file(_address(item, mirror), download, ledger)
    elif download.exists() or not place.exists():
        digest = fetch_file(_address(item, mirror), download, ledger)
        try:
            unpack(download, place, digest=digest)
        except BrokenArchive:
            ledger.forget(download)  # what comes next time may be another file
            raise


def _report(items: Sequence[Item], root: Path) -> None:
    print("\nHere, checked and unpacked:")
    for item in items:
        print(f"  {_meant(item, root)}")
    keys = [f"{item.key}: {_meant(item, root)}" for item in items if item.key]
    steps = [f"python -m data.prepare.libri2mix {_meant(item, root)}" for item in items if item.group == "testsets"]
    corpora = [str(_meant(item, root)) for item in items if item.group == "librispeech"]
    if corpora:
        steps.append(f"python -m data.prepare.librispeech --output {root / 'librispeech.json'} {' '.join(corpora)}")
    for title, lines in (("Set in the recipe:", keys), ("Then make the lists:", steps)):
        if lines:
            print("\n  ".join([title, *lines]))
    if any(item.is_archive and item.download(root).exists() for item in items):
        print(f"The archives in {root / 'archives'} are not needed any more.")


def _hub_size(item: Item) -> int | None:
    try:
        return sum(info.file_size for info in _hub_files(item.source))
    except Exception:  # the attempt to fetch it says what is wrong
        return None


def _address(item: Item, mirror: str | None) -> str:
    if item.on_hub:
        return f"{constants.ENDPOINT}/{item.source}"
    address = item.source.replace(_HUB, constants.ENDPOINT, 1)
    return mirror.rstrip("/") + urlsplit(address).path if mirror else address


def _is_there(item: Item, root: Path) -> bool:
    place = root / item.place
    return _is_model(place) if item.on_hub else place.exists() or item.download(root).exists()


def _meant(item: Item, root: Path) -> Path:
    place = root / item.place
    inside = sorted(place.rglob(item.holds)) if item.holds else []
    return inside[0].parent if inside else place


def _readable(size: int | None) -> str:
    return "unknown size" if size is None else tqdm.format_sizeof(size, "B")


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
        digest = pooch.file_hash(str(path))
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
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(self.entries, indent=1, sort_keys=True) + "\n")
        os.replace(temporary, self.path)


def fetch_model(repository: str, folder: Path, ledger: Ledger) -> None:
    """Fetch settings and weights of a model on the hub, unless they are there, and check them.

    Raises:
        OSError: the hub cannot be reached, or has no weights there.
        ValueError: a file is not the one that was recorded.
    """
    address, here = None, f"{constants.ENDPOINT}/{repository}"
    if not _is_model(folder):
        try:
            found = _hub_files(repository)
            commit, names = found[0].commit_hash, [info.filename for info in found]
            huggingface_hub.snapshot_download(repository, revision=commit, local_dir=folder, allow_patterns=names)
            if not _is_model(folder):  # the client is content with a folder in part where the hub has gone
                raise FileNotFoundError("not all files arrived")
        except Exception as error:  # the client raises errors of several libraries
            raise OSError(
                f"cannot fetch {here} ({' '.join(str(error.__cause__ or error).split())}). Name a mirror in "
                f"HF_ENDPOINT; or fetch it elsewhere and put config.json and {' or '.join(_WEIGHTS)} into {folder}"
            ) from error
        address = f"{here}/resolve/{commit}"
    for name in (*_SETTINGS, *_WEIGHTS):
        if (folder / name).exists():
            ledger.check(folder / name, address=address and f"{address}/{name}")


def _hub_files(repository: str) -> list[huggingface_hub.DryRunFileInfo]:
    """What there is to fetch of a model: settings and one file of weights. Raises the errors of the hub's client."""
    found = huggingface_hub.snapshot_download(repository, allow_patterns=[*_SETTINGS, *_WEIGHTS], dry_run=True)
    names = {info.filename for info in found}
    weights = [name for name in _WEIGHTS if name in names][:1]
    if not weights or "config.json" not in names:
        raise FileNotFoundError(f"the repository has no config.json with {' or '.join(_WEIGHTS)}")
    return [info for info in found if info.filename in (*_SETTINGS, *weights)]


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in _WEIGHTS)


def fetch_file(address: str, path: Path, ledger: Ledger) -> str:
    """Fetch one file, unless it is there, and check it; returns its SHA-256. Raises OSError and ValueError."""
    if path.exists():
        return ledger.check(path, address=None)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not through pooch.retrieve, whose empty temporary file stays behind in a run that is killed.
    ResumingDownloader(path)(address, str(path), None)
    return ledger.check(path, address=address)


class Interrupted(Exception):
    """The transfer stopped, or has to begin again: worth another attempt."""


class ResumingDownloader:
    """A downloader for pooch, over HTTP, that goes on where an earlier one stopped, in this run or another.

    The bytes gather in ``target`` + ``.part``; ``.part.json`` beside it says which version of the file they belong to
    (ETag, date, length). They are continued if the server sends the rest of that version, and dropped if it does not.

    Args:
        target: where the file belongs in the end; the errors name it.
        attempts: how often in a row a transfer may stop without having brought anything.
        wait: seconds before the next attempt, doubled for each that brought nothing.
        timeout: seconds without a byte after which a transfer counts as stopped.
    """

    def __init__(self, target: Path, *, attempts: int = 4, wait: float = 1.0, timeout: float = 30.0) -> None:
        self.target = target
        self.part = _part(target)
        self.note = self.part.with_name(f"{self.part.name}.json")
        self.attempts = attempts
        self.wait = wait
        self.timeout = timeout

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> bool | None:
        """Write ``url`` to ``output_file``, or, with ``check_only``, say whether it is there: pooch's protocol.

        Raises:
            OSError: the address cannot be reached or has no such file; the message names it and the way out.
        """
        if check_only:
            return _size(url) is not None
        failures = 0
        while True:
            before = self._held()
            try:
                self._get_rest(url)
                break
            except (
                Interrupted,
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as e:
                failures = 0 if self._held() > before else failures + 1
                if failures >= self.attempts:
                    raise OSError(self._way_out(url, str(e))) from e
                time.sleep(self.wait * 2 ** max(failures - 1, 0))
            except requests.RequestException as e:
                raise OSError(self._way_out(url, str(e))) from e
        os.replace(self.part, output_file)
        self._discard()
        return None

    def _get_rest(self, url: str) -> None:
        version = self._read_note(url)
        held = self._held() if version else 0
        if not version or held != version["size"]:  # equal: it was stopped after the last byte
            headers = {"Accept-Encoding": "identity"}  # ranges count the bytes of the file
            if version and held:
                headers |= {"Range": f"bytes={held}-", "If-Range": version["etag"] or version["modified"]}
            with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
                self._refuse_errors(response, url)
                version = self._begin(response, url, version if held else None)
                self._receive(response, version["size"])
        if version["size"] is not None and self._held() != version["size"]:
            raise Interrupted(f"{self._held()} of {version['size']} bytes arrived")
        if version["sha256"]:
            digest = pooch.file_hash(str(self.part))
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
        if response.status_code == 206 and version and _first_byte(response) == self._held():
            # A server may leave out what If-Range has compared already.
            if all(offered[k] in (None, version[k]) for k in version):
                return version
        self._discard()
        raise Interrupted("the server has another file now than the one begun, which was dropped")

    def _receive(self, response: requests.Response, size: int | None) -> None:
        held = self._held()
        with (
            open(self.part, "ab") as file,
            tqdm(desc=self.target.name, total=size, initial=held, unit="B", unit_scale=True, disable=None) as bar,
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

    def _held(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _way_out(self, url: str, reason: str) -> str:
        kept = f" {self._held()} bytes are kept: run the command again to go on from there." if self._held() else ""
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


def _size(url: str) -> int | None:
    """Length of a file in bytes, where the server tells."""
    try:
        response = requests.head(url, headers={"Accept-Encoding": "identity"}, timeout=10, allow_redirects=True)
        return int(response.headers["Content-Length"]) if response.ok else None
    except (requests.RequestException, KeyError, ValueError):
        return None


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


class BrokenArchive(ValueError):
    """An archive that cannot be unpacked, or must not be."""


def unpack(archive: Path, folder: Path, *, digest: str) -> None:
    """Unpack a .tar.gz as ``folder``, all of it or nothing; an archive of one folder becomes that folder.

    Archives come from elsewhere: links and devices, which speech and weights have no need of, and whatever would lie
    outside the folder are refused.

    Args:
        digest: the archive's SHA-256, noted in the folder so that the next run knows where it came from.

    Raises:
        BrokenArchive: the archive is broken or refused.
        ValueError: the folder is there but was not unpacked from this archive.
    """
    if folder.exists():
        mark = folder / _MARK
        if mark.exists() and mark.read_text().strip() == digest:
            return
        raise ValueError(f"{folder} is there but was not unpacked from {archive}: delete or move one of the two")
    if not hasattr(tarfile, "data_filter"):
        raise ValueError(f"Python 3.11.4 or later is needed to unpack safely: unpack {archive} yourself as {folder}")
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    temporary.mkdir()
    try:
        with gzip.open(archive) as raw:
            with tarfile.open(fileobj=raw, mode="r|") as tar:
                members = tqdm(tar, desc=f"unpacking {archive.name}", unit=" files", disable=None)
                tar.extractall(temporary, members=members, filter=_admit)
            while raw.read(1 << 20):  # up to the end, where gzip compares its checksum
                pass
        inside = list(temporary.iterdir())
        top = inside[0] if len(inside) == 1 and inside[0].is_dir() else temporary
        (top / _MARK).write_text(f"{digest}\n")
        os.rename(top, folder)
    except tarfile.FilterError as error:
        raise BrokenArchive(
            f"{archive} is refused: {error}. Only files and folders that stay in their folder are unpacked; if you "
            f"trust it, unpack it yourself as {folder} and delete the archive"
        ) from error
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BrokenArchive(f"{archive} is broken ({error}): delete it, and the next run fetches it again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _admit(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    # Stricter than tarfile's own filter, which takes the slash off an absolute name and lets links inside the folder
    # pass; several ways out of the folder that were found in that filter went through links.
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise tarfile.FilterError(f"{member.name!r} lies outside the folder")
    if not (member.isfile() or member.isdir()):
        raise tarfile.FilterError(f"{member.name!r} is a link or a device")
    return tarfile.data_filter(member, folder)


if __name__ == "__main__":
    sys.exit(main())
