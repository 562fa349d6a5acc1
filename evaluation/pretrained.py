"""Pretrained models of metrics: found and checked at once, loaded later, and one line for whatever goes wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.metric import Unavailable
from utils.errors import first_few

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class Pretrained:
    """A pretrained model of transformers: a local folder, or a model of the hub, which is fetched unless it is cached.

    It can be pickled: nothing of torch is imported before :meth:`load`.

    Args:
        source: a folder in the Hugging Face format, or a name on the hub, ``owner/name``.
        classes: which class of transformers loads it, by the ``model_type`` in its config.json.
        files: what it must have beside the weights.
        extras: what is taken too where there is any.
        flag: the option that names another folder; errors tell it.

    Attributes:
        folder: where it lies.
        config: the contents of its config.json.
        digest: SHA-256 of its weights.

    Raises:
        Unavailable: it is not there and cannot be fetched, not all of it is there, or it is a model of another type.
    """

    def __init__(
        self,
        source: str,
        *,
        classes: Mapping[str, str],
        files: Sequence[str] = ("config.json",),
        extras: Sequence[str] = (),
        flag: str = "",
    ):
        self.source = str(source)
        self.files, self.extras, self.flag = tuple(files), tuple(extras), flag
        self.folder = Path(self.source).expanduser()
        if not self.folder.is_dir():
            self.folder = self._from_hub()
        if lacking := self._lacking(self.folder):
            raise unavailable(f"weights not found at {self.folder}: there is no {', no '.join(lacking)}", flag)
        self.config = self.read_json("config.json")
        kind = self.config.get("model_type")
        if kind not in classes:
            wanted = " or ".join(classes)
            raise unavailable(f"{self.folder / 'config.json'} is of a model of type {kind}, not {wanted}", flag)
        self._class = classes[kind]
        self.digest = digest(next(self.folder / name for name in _WEIGHTS if (self.folder / name).is_file()), flag)

    def read_json(self, name: str) -> dict[str, Any]:
        """The contents of one of its settings."""
        try:
            contents = json.loads((self.folder / name).read_text(encoding="utf-8"))
            if not isinstance(contents, dict):
                raise ValueError("it holds no settings")
        except (OSError, ValueError) as error:
            raise unavailable(f"cannot read {self.folder / name} ({one_line(error)})", self.flag) from error
        return contents

    def load(self, device: str, *, unused: tuple[str, ...] = ()) -> Any:
        """The model in fp32 and eval mode. Weights whose names begin with one of ``unused`` may be missing."""
        with self.loading(f"a {self._class}"):
            import torch
            import transformers

            cls = getattr(transformers, self._class)
            config = cls.config_class.from_pretrained(self.folder)
            config.mask_time_prob = config.mask_feature_prob = 0.0  # of training; needs a weight that may be missing
            model, info = cls.from_pretrained(
                self.folder, config=config, dtype=torch.float32, output_loading_info=True, local_files_only=True
            )
            if missing := sorted(key for key in info["missing_keys"] if not key.startswith(unused)):
                raise ValueError(f"it lacks weights: {first_few(missing)}")
            return model.eval().requires_grad_(False).to(device)

    @contextlib.contextmanager
    def loading(self, what: str) -> Iterator[None]:
        """Load ``what`` from the folder: quietly, and whatever goes wrong is Unavailable, in one line."""
        try:
            with quiet():
                yield
        except Exception as error:  # of several libraries, and of whatever a broken file brings about in them
            raise unavailable(f"cannot load {what} from {self.folder} ({one_line(error)})", self.flag) from error

    def _lacking(self, folder: Path) -> list[str]:
        lacking = [name for name in self.files if not (folder / name).is_file()]
        if not any((folder / name).is_file() for name in _WEIGHTS):
            lacking.append(" or ".join(_WEIGHTS))
        return lacking

    def _from_hub(self) -> Path:
        """The folder in the hub's cache: as it is if it is complete, or else after fetching what is missing."""
        if not _HUB_ID.fullmatch(self.source):
            raise unavailable(f"weights not found at {self.source}: there is no such folder", self.flag)
        import huggingface_hub
        from huggingface_hub import constants

        cached = self._cached()
        if cached and all((cached / name).is_file() for name in self.extras):
            return cached
        if huggingface_hub.is_offline_mode():
            problem = "this is offline"
        else:
            try:
                self._fetch()
                cached = self._cached() or cached
                problem = f"{constants.ENDPOINT} has not all of {', '.join(self.files)} and {' or '.join(_WEIGHTS)}"
            except Exception as error:  # the client raises errors of several libraries
                problem = f"cannot be fetched from {constants.ENDPOINT} ({one_line(error.__cause__ or error)})"
        if cached is None:
            where = f"is neither a folder nor in the hub's cache ({constants.HF_HUB_CACHE})"
            raise unavailable(f"{self.source} {where}, and {problem}", self.flag)
        return cached

    def _cached(self) -> Path | None:
        """The folder in the hub's cache, if it has all that is needed."""
        import huggingface_hub

        try:
            folder = huggingface_hub.snapshot_download(
                self.source, local_files_only=True, allow_patterns=list(self.files)
            )
        except (OSError, ValueError):
            return None
        return None if self._lacking(Path(folder)) else Path(folder)

    def _fetch(self) -> None:
        """Fetch the settings and one file of weights into the hub's cache. Raises the errors of the hub's client."""
        import huggingface_hub

        info = huggingface_hub.HfApi().model_info(self.source, revision="main")
        there = {file.rfilename for file in info.siblings or ()}
        wanted = [*self.files, *self.extras, *[name for name in _WEIGHTS if name in there][:1]]
        huggingface_hub.snapshot_download(self.source, allow_patterns=wanted)


def digest(path: Path, flag: str = "") -> str:
    """SHA-256 of a file of weights."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unavailable(f"cannot read {path} ({one_line(error)})", flag) from error


def unavailable(problem: str, flag: str, *, what: str = "folder") -> Unavailable:
    """The error to raise: the problem and the way out."""
    return Unavailable(f"{problem}. Name a local {what} {f'with {flag}' if flag else 'instead'}")


def one_line(error: BaseException) -> str:
    """What an error says, in one line that is not too long; its kind where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:296]} ..."


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
