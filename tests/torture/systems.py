"""The five systems, and what two of them need, at sizes at which a training takes seconds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tests import dpslm, limuse, resynthesis, toy, unit_hifigan
from tests.models.kmeans import test_training as kmeans
from tests.models.limuse.test_task import SIZES as LIMUSE
from tests.test_resynthesis import LEARNED_UNITS, TINY
from tests.test_train import command as tselm
from tests.test_train_codec import SMALL as CODEC
from tests.torture.attack import Place
from tests.torture.programs import run
from utils.commands import overrides


@dataclass(frozen=True)
class System:
    """How one is trained at a tiny size.

    Attributes:
        recipe: of the training.
        keys: ``keys(place)`` gives what the recipe must be told; it makes the data where they are missing.
    """

    recipe: str
    keys: Callable[[Place], dict[str, object]]

    def command(self, place: Place, folder: Path, **more: object) -> list[object]:
        """A training whose log and checkpoints go below ``folder``."""
        where = ["--config_path", self.recipe, "--log", folder / "log", "--ckpt_path", folder / "ckpt"]
        keys = {"gpus": "cpu", "num_workers": 0, "log_interval": 1, "save_interval": 1, **self.keys(place), **more}
        return ["train.py", *where, *overrides({k: "null" if v is None else v for k, v in keys.items()})]


def corpus(place: Place) -> Path:
    return place.once("corpus", lambda folder: toy.write_corpus(folder, seconds=1.3))


def _tselm(place: Place) -> dict[str, object]:
    folder = corpus(place)
    paths = dict(tr_data_scp_path=folder / "train.json", cv_mix_path=folder / "dev/mix_clean.scp")
    paths |= dict(cv_ref_path=folder / "dev/aux_s1.scp", cv_clean_path=folder / "dev/s1.scp")
    words = tselm(Path("."), paths)  # its pairs of --override and KEY=VALUE
    given = dict(text.split("=", 1) for text in words if "=" in text)
    return {**given, "num_workers": 0, "batch_size": 2, "epoch_num": 6, "mix_length": 4080, "regi_length": 4080}


def _codec(place: Place) -> dict[str, object]:
    index = corpus(place) / "train.json"
    return {**CODEC, "train_path": index, "valid_path": index, "steps": 6, "segment_length": 3200}


def _resynthesis(place: Place) -> dict[str, object]:
    voices = place.once("voices", resynthesis.write_voices)
    lists = {"train_path": voices / "train.txt", "valid_path": voices / "valid.txt"}
    return {**TINY, **LEARNED_UNITS, **lists, "batch_size": 8, "batch_size_eval": 2, "epoch": 3, "lr": 0.002}


def _dpslm(place: Place) -> dict[str, object]:
    units = place.once("units", lambda folder: shutil.copytree(dpslm.REFERENCE / "units", folder / "units")) / "units"
    more = {"train_units": units, "valid_units": units, "chunk_size": 20, "batch_size": 4, "batch_size_eval": 4}
    more |= {"epoch_num": 12, "epoch": 2, "accumulate": 1, "precision": "fp32"}
    return {**dpslm.lm_settings(), **more}


def _limuse(place: Place) -> dict[str, object]:
    data = limuse.REFERENCE / "test"
    sizes = {**LIMUSE, "batch_size": 4, "batch_size_eval": 4, "clip_seconds": 0.1, "epoch": 2, "epoch_num": 12}
    return {**sizes, "tr_data_path": data, "cv_data_path": data}


def _kmeans(place: Place) -> dict[str, object]:
    folder = corpus(place)
    words = kmeans.command(Path("."), dict(tr_data_scp_path=folder / "train.json"))
    given = dict(text.split("=", 1) for text in words if "=" in text)
    return {**given, "cv_data_scp_path": folder / "dev/s1.scp", "save_interval": 1}


def _vocoder(place: Place) -> dict[str, object]:
    folder = corpus(place)
    small = {**unit_hifigan.TOY, "batch_size": 3, "epoch": 2, "valid_frames": 20}

    def tokens(made: Path) -> None:
        for part, what in (("train", "train.json"), ("valid", "dev/s1.scp")):
            where = ("-config", unit_hifigan.RECIPE, "--output", made / part, "-gpus", "cpu", "-proc", 1)
            run("inference.py", "--tokenize", folder / what, *where, *overrides(small), said=made / "said.txt")

    made = place.once("tokens", tokens)
    lists = {"train_path": folder / "train.json", "valid_path": folder / "dev/s1.scp"}
    return {**small, **lists, "train_tokens": made / "train", "valid_tokens": made / "valid"}


SYSTEMS = {
    "TSELM": System("config/tselm_toy.yaml", _tselm),
    "SpeechTokenizer": System("config/toy/speechtokenizer.yaml", _codec),
    "resynthesis": System("config/resynthesis/vocoder.yaml", _resynthesis),
    "DP-SLM": System("config/dpslm/unit_lm.yaml", _dpslm),
    "LiMuSE": System("config/limuse.yaml", _limuse),
}
PARTS = {  # trainings of what the systems need
    "k-means": System("config/kmeans.yaml", _kmeans),
    "vocoder": System("config/unit_hifigan.yaml", _vocoder),
}
TRAININGS = {**SYSTEMS, **PARTS}


def undisturbed(place: Place, name: str, **keys: object) -> Path:
    """The folder of a training of a system, with these keys, that nothing disturbed."""

    def train(folder: Path) -> None:
        since = time.monotonic()
        run(*TRAININGS[name].command(place, folder, **keys), said=folder / "said.txt")
        (folder / "seconds").write_text(str(time.monotonic() - since))

    return place.once(" ".join(["undisturbed", name, *(f"{key} {value}" for key, value in keys.items())]), train)


def seconds(folder: Path) -> float:
    """How long the undisturbed run took."""
    return float((folder / "seconds").read_text())


def saved(folder: Path) -> dict[str, object]:
    return torch.load(folder / "ckpt/last.pth", weights_only=True)


def require_same_end(folder: Path, other: Path) -> None:
    """Raises AssertionError if two trainings, each done, did not end bit by bit the same."""
    for name in ("last", "best"):
        a, b = (torch.load(at / f"ckpt/{name}.pth", weights_only=True) for at in (folder, other))
        for key in ("model", "state", "progress"):
            _require_same(a.get(key), b.get(key), f"{name}.pth {key}")


def _require_same(a: object, b: object, where: str) -> None:
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b), f"{where} differs"
    elif isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), f"{where} has other names"
        for key in a:
            _require_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), f"{where} has another length"
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            _require_same(one, other, f"{where}.{number}")
    else:
        assert a == b, f"{where}: {a} and {b}"
