"""Fetch the public files: the released weights, the Libri2Mix test sets, LibriSpeech's training folders.

    python -m data.prepare.download --output public --what weights testsets librispeech

A download that was cut off goes on where it stopped. A file gets its name when it is complete; its SHA-256 is kept in
``sha256.json`` and compared in every run. An archive is unpacked beside its folder, which is renamed when it is
complete; a second run does nothing, and the archives may be deleted. Where an address cannot be reached, the error says
where to put the file, and a file put there is used.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import filelock
from huggingface_hub import constants
from tqdm import tqdm

from data.prepare.archives import BrokenArchive, unpack
from data.prepare.fetch import Ledger, ResumingDownloader, fetch_file, file_size
from data.prepare.hub import fetch_model, is_model, model_size
from utils.errors import report_errors

_HUB = "https://huggingface.co"
_TSELM = f"{_HUB}/Beilong/TSELM/resolve/main"
_LIBRI2MIX = f"{_HUB}/datasets/Beilong/libri2mix_clean_target/resolve/main"
_LIBRISPEECH = "https://www.openslr.org/resources/12"
_VOCODER = "hifigan-wavlm-l1-3-7-18-23-k1000-LibriTTS.tar.gz"  # six layers all the same: the name drops the 12


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
    with report_errors() as outcome:
        _run([item for item in ITEMS if {item.name, item.group} & set(args.what)], Path(args.output), args.mirror)
    return outcome.status


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
        size = model_size(item.source) if item.on_hub else file_size(_address(item, mirror))
        print(f"{item.name}: {_readable(size)} from {_address(item, mirror)}")
        total += max(0, (size or 0) - ResumingDownloader(item.download(root)).held)
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


def _address(item: Item, mirror: str | None) -> str:
    if item.on_hub:
        return f"{constants.ENDPOINT}/{item.source}"
    address = item.source.replace(_HUB, constants.ENDPOINT, 1)
    return mirror.rstrip("/") + urlsplit(address).path if mirror else address


def _is_there(item: Item, root: Path) -> bool:
    place = root / item.place
    return is_model(place) if item.on_hub else place.exists() or item.download(root).exists()


def _meant(item: Item, root: Path) -> Path:
    place = root / item.place
    inside = sorted(place.rglob(item.holds)) if item.holds else []
    return inside[0].parent if inside else place


def _readable(size: int | None) -> str:
    return "unknown size" if size is None else tqdm.format_sizeof(size, "B")


if __name__ == "__main__":
    sys.exit(main())
