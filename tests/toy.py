"""What the tests share: the reference data, and the recipe settings that fit it."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from safetensors.torch import load_file

from utils.progress import StopRequest

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "tests/reference"
DIMS = json.loads((REFERENCE / "dims.json").read_text())
LAYERS = DIMS["ssl_layers"]
UTTERANCES = ("utt0", "utt1", "utt2", "utt3")
VARIANTS = {
    "l": {},
    "hybrid": {"mix_continuous": True},
    "nocat": {"concat_regi": False},
}
SIZES = {
    "num_clusters": DIMS["num_clusters"],
    "embedding_dim": DIMS["embedding_dim"],
    "d_model": DIMS["lm"]["d_model"],
    "num_heads": DIMS["lm"]["nhead"],
    "num_layers": DIMS["lm"]["num_layers"],
    "lm_ffn": DIMS["lm"]["d_ffn"],
    "fusion_layers": DIMS["fusion"]["num_layers"],
    "fusion_heads": DIMS["fusion"]["nhead"],
    "fusion_ffn": DIMS["fusion"]["d_ffn"],
    "wavlm_path": REFERENCE / "wavlm",
    "kmeans_path": REFERENCE / "kmeans",
    "hifi_gan_path": REFERENCE / "hifigan",
}
RECIPE = ROOT / "config/tselm_l.yaml"


def settings(**more: object) -> list[str]:
    """``KEY=VALUE`` texts that bring a recipe to the reference's sizes."""
    return [f"{key}={json.dumps(v) if isinstance(v, list | bool) else v}" for key, v in {**SIZES, **more}.items()]


def flags(**more: object) -> list[str]:
    """The same as command-line arguments."""
    return [part for text in settings(**more) for part in ("--override", text)]


def run(*command: object, timeout: int = 300) -> subprocess.CompletedProcess:
    """One of the project's programs, from its root."""
    arguments = [sys.executable, *map(str, command)]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def stop_after_first_save(*command: object, checkpoint: Path, number: int = signal.SIGKILL) -> Done:
    """Run a training, and send it and its workers a signal as soon as it has written ``checkpoint``."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=120)
    return Done(process.returncode, "", stderr)


class StopAfter(StopRequest):
    """Asks to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def due(self, step: int) -> bool:
        return step >= self.steps


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def call(program: str, *command: object, cwd: Path = ROOT) -> Done:
    """The same in this process, which saves the imports, for what needs no process of its own."""
    main = importlib.import_module(program.removesuffix(".py").replace("/", ".")).main
    threads, handlers, environment = torch.get_num_threads(), list(logging.root.handlers), dict(os.environ)
    stdout, stderr = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr), contextlib.chdir(cwd):
            status = main([str(part) for part in command])
    except SystemExit as exit:  # argparse
        status = exit.code
    finally:
        torch.set_num_threads(threads)
        for handler in set(logging.root.handlers) - set(handlers):
            handler.close()
        logging.root.handlers = handlers
        os.environ.clear()
        os.environ.update(environment)
    return Done(status, stdout.getvalue(), stderr.getvalue())


def in_this_process(*command: object) -> None:
    """As utils.commands.run, but in this process: what is divided over two elsewhere is done by one, the same."""
    words = [str(part) for part in command]
    for several in (["-proc", "2"], ["--override", "gpus=[cpu, cpu]"]):
        for at in [i for i in range(len(words) - 1) if words[i : i + 2] == several]:
            words[at + 1] = "1" if several[0] == "-proc" else "gpus=cpu"
    name, *arguments = words[1:] if words[0] == "-m" else words
    done = call(name if name.endswith(".py") else name.replace(".", "/"), *arguments)
    print(done.stdout)
    assert done.returncode == 0, done.stderr


@cache
def expected() -> dict[str, torch.Tensor]:
    return load_file(REFERENCE / "expected.safetensors")


def read(kind: str, utterance: str, length: int | None = None) -> torch.Tensor:
    """A file of the reference's test folder as [1, T], cut or zero-padded at its end to ``length``."""
    wav = torch.from_numpy(sf.read(REFERENCE / f"test/{kind}/{utterance}.wav", dtype="float32")[0])[None]
    if length is None:
        return wav
    return torch.nn.functional.pad(wav[:, :length], (0, max(0, length - wav.shape[1])))


class Payload:
    """Pickled, it is code that makes a file when it is loaded without care."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def write_corpus(folder: Path, *, speakers: int = 3, utterances: int = 3, seconds: float = 3.2) -> dict[str, Path]:
    """A corpus of noise with a voice-like spectrum, of fixed seed: an index, and lists of two dev mixtures.

    Returns:
        The recipe's data paths.
    """
    rng = np.random.default_rng(0)
    index: dict[str, list[str]] = {}
    for speaker in range(speakers):
        for number in range(utterances):
            samples = int(seconds * 16000) + 320 * number
            time = np.arange(samples) / 16000
            pitch = 90 + 40 * speaker + 10 * np.sin(2 * np.pi * (2 + number) * time)
            wav = sum(np.sin(2 * np.pi * np.cumsum(pitch) * k / 16000) / k for k in range(1, 9))
            wav = wav * (1 + np.sin(2 * np.pi * 3 * time)) + 0.05 * rng.standard_normal(samples)
            path = folder / f"train/{speaker}-{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, 0.9 * wav / np.abs(wav).max(), 16000)
            index.setdefault(f"speaker{speaker}", []).append(f"train/{speaker}-{number}.wav")
    (folder / "train.json").write_text(json.dumps(index))
    dev = folder / "dev"
    dev.mkdir()
    for kind in ("mix_clean", "s1", "aux_s1"):
        with open(dev / f"{kind}.scp", "w") as file:
            for number in range(3):
                a, b = (sf.read(folder / f"train/{speaker}-{number}.wav")[0] for speaker in (0, 1))
                size = min(len(a), len(b))
                wav = {"mix_clean": 0.5 * (a[:size] + b[:size]), "s1": 0.5 * a[:size], "aux_s1": a[::-1]}[kind]
                sf.write(dev / f"{kind}{number}.wav", wav, 16000)
                file.write(f"item{number}.wav {kind}{number}.wav\n")
    return {
        "tr_data_scp_path": folder / "train.json",
        "cv_mix_path": dev / "mix_clean.scp",
        "cv_ref_path": dev / "aux_s1.scp",
        "cv_clean_path": dev / "s1.scp",
    }
