"""Models of the Hugging Face hub: the settings and one file of weights, fetched with the hub's own client."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
from huggingface_hub import constants

from data.prepare.fetch import Ledger

_SETTINGS = ("config.json", "preprocessor_config.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that the hub has


def fetch_model(repository: str, folder: Path, ledger: Ledger) -> None:
    """Fetch settings and weights of a model on the hub, unless they are there, and check them.

    Raises:
        OSError: the hub cannot be reached, or has no weights there.
        ValueError: a file is not the one that was recorded.
    """
    here = f"{constants.ENDPOINT}/{repository}"  # of the hub, or of the mirror in HF_ENDPOINT
    address = None
    if not is_model(folder):
        try:
            found = _hub_files(repository)
            commit, names = found[0].commit_hash, [info.filename for info in found]
            huggingface_hub.snapshot_download(repository, revision=commit, local_dir=folder, allow_patterns=names)
            if not is_model(folder):  # the client is content with a folder in part where the hub has gone
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


def is_model(folder: Path) -> bool:
    """Whether a folder holds settings and weights."""
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in _WEIGHTS)


def model_size(repository: str) -> int | None:
    """How much there is to fetch of a model in bytes, where the hub tells."""
    try:
        return sum(info.file_size for info in _hub_files(repository))
    except Exception:  # the attempt to fetch it says what is wrong
        return None


def _hub_files(repository: str) -> list[huggingface_hub.DryRunFileInfo]:
    """What there is to fetch of a model: settings and one file of weights. Raises the errors of the hub's client."""
    found = huggingface_hub.snapshot_download(repository, allow_patterns=[*_SETTINGS, *_WEIGHTS], dry_run=True)
    names = {info.filename for info in found}
    weights = [name for name in _WEIGHTS if name in names][:1]
    if not weights or "config.json" not in names:
        raise FileNotFoundError(f"the repository has no config.json with {' or '.join(_WEIGHTS)}")
    return [info for info in found if info.filename in (*_SETTINGS, *weights)]
