"""Files that somebody sends: none runs code, and each is refused in bounded time and memory."""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.torture import samples
from tests.torture.attack import Place, attack
from tests.torture.programs import forked

SECONDS = 30.0  # that a reader may take, on a machine that does other things too
MEMORY = 400 << 20  # bytes that it may take beside what its process has
ADDRESSES = 24 << 30  # that may be asked for: more is refused by the system, as on a machine without so much

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
            "data.speakers.read_speakers", "data.scp.read_list", "running.record.read_record",
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


def look(reader: str, path: Path, result: Path) -> str | None:
    """What is wrong with how a reader takes a file: None if it reads it, or refuses it by name, and soon."""
    result.unlink(missing_ok=True)
    process = forked(_read, reader, str(path), str(result))
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        return f"no end in {SECONDS:g} s"
    if process.exitcode or not result.exists():
        return f"its process ended with exit status {process.exitcode}"
    found = json.loads(result.read_text())
    if found["memory"] > MEMORY:
        return f"it took {found['memory'] >> 20} MB"
    if found["error"] is None:
        return None
    if found["error"] not in ("ValueError", "UnsafeFile", "FileNotFoundError", "IsADirectoryError", "OSError"):
        return f"{found['error']}: {found['said']}"
    return None if path.name in found["said"] else f"the error does not name the file: {found['said']}"


def _read(reader: str, path: str, result: str) -> None:
    module, _, name = reader.rpartition(".")
    read = getattr(importlib.import_module(module), name)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    before, since = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    error, said = None, ""
    try:
        read(Path(path))
    except Exception as problem:
        error, said = type(problem).__name__, str(problem)[:500]
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    seconds = time.monotonic() - since
    Path(result).write_text(json.dumps({"error": error, "said": said, "memory": memory, "seconds": seconds}))
