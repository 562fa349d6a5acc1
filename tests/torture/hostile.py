"""Files that somebody sends: none runs code, and each is refused in bounded time and memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.torture import samples
from tests.torture.attack import Place, attack
from tests.torture.watched import look

# form -> what reads it, and what makes the files
READERS: dict[str, tuple[list[str], Callable[[Path, Path], dict[str, Path]]]] = {
    "torch files": (
        ["utils.checkpoint.load"],
        samples.torch_files,
    ),
    "pickles": (["utils.safe_joblib.load_joblib"], samples.joblib_files),
    "YAML": (["utils.safe_yaml.load_yaml"], lambda at, mark: samples.files(at, samples.YAML, ".yaml", mark)),
    "safetensors": (
        ["utils.tensor_files.load_safetensors", "utils.tensor_files.load_metadata"],
        lambda at, mark: samples.files(at, samples.SAFETENSORS, ".safetensors", mark),
    ),
    "arrays": (
        ["data.arrays.read", "data.arrays.rows", "data.aligned_features._open"],
        lambda at, mark: samples.files(at, samples.NPY, ".npy", mark),
    ),
    "packed arrays": (
        ["utils.files.read_arrays"],
        lambda at, mark: samples.files(at, {"2 GB in 2 MB": samples.bomb(), "nothing": b""}, ".npz", mark),
    ),
    "JSON": (
        [
            "data.speakers.read_speakers", "running.record.read_record",
            "models.speechtokenizer.architecture.read_config",
        ],
        lambda at, mark: samples.files(at, samples.JSON, ".json", mark),
    ),
    "audio": (
        ["data.audio.read", "data.audio.header"],
        lambda at, mark: samples.files(at, samples.WAV, ".wav", mark),
    ),
}  # fmt: skip


@attack("hostile files of each form", promise="hostile files", over=list(READERS))
def read_hostile(place: Place, number: int, form: str) -> None:
    """Each file goes to each reader of its form, in a process whose time and memory are watched."""
    folder = place.fresh("files")
    mark = folder / "it-ran"
    readers, make = READERS[form]
    made = make(folder, mark)
    os.mkfifo(folder / "pipe")
    made |= {"a pipe": folder / "pipe", "a folder": folder, "a device": Path("/dev/zero"), "none": folder / "none"}
    faults = []
    for reader in readers:
        for name, path in made.items():
            said = look(reader, path, folder / "result.json")
            place.count("files")
            if mark.exists():
                said, _ = "it ran code", mark.unlink()
            if said:
                faults.append(f"{reader} of {name}: {said}")
    shutil.rmtree(folder)
    assert not faults, "\n".join(faults)
