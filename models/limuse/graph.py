"""The network as a graph for other programs: ONNX, or torch's exported program."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch.export import Dim

from models.limuse.network import LiMuSE
from utils.files import readable, whole_file

log = logging.getLogger(__name__)
FORMS = (".onnx", ".pt2")
FACE_HOP = 640
TRACED = 8000  # samples of the example that the graph is made with
TRIED = (0.5, 1.0, 1.7)  # how long, beside that, are the signals that the graph is tried on
TOLERANCE = 1e-3  # of the peak
# Why a graph can differ from the network, or refuse a signal.
LIMITS = {
    ".onnx": "one signal at a time, of any length",
    ".pt2": "one signal at a time, of 16 frames at least (257 samples with filters of 32)",
}


def write(path: Path, network: LiMuSE) -> Path:
    """Write a trained network, whose weights are hard, as a graph; its output is that of ``level: raw``.

    Its inputs are ``mixture`` [1, C, T] and the cues in use, ``voiceprint`` [1, D] and ``visual`` [1, V, visual_dim]
    with V = ceil(T / 640); its output ``speech`` is [1, T]. Longer signals are computed as one, not in windows. The
    graph is tried on a longer and a shorter signal, and on one whose frames end in the middle of a block.

    Raises:
        ValueError: ONNX cannot be written without its packages, or the graph computes something else.
    """
    form = path.suffix
    if form == ".onnx" and (missing := [n for n in ("onnx", "onnxscript") if importlib.util.find_spec(n) is None]):
        raise ValueError(
            f"to write {path}, {' and '.join(missing)} must be installed: requirements-onnx.txt; .pt2 needs none"
        )
    network = network.eval().requires_grad_(False)
    inputs = example(network, TRACED)
    shapes = {"mixture": {2: Dim.AUTO}, "voiceprint": None, "visual": {1: Dim.AUTO}}
    with warnings.catch_warnings(), torch.no_grad(), _readable_flags():
        warnings.simplefilter("ignore")  # of what torch's own code will call otherwise
        program = torch.export.export(network, (), inputs, dynamic_shapes={name: shapes[name] for name in inputs})
        with whole_file(path) as temporary:
            if form == ".pt2":
                torch.export.save(program, temporary)
            else:
                made = torch.onnx.export(
                    program, dynamo=True, verbose=False, input_names=list(inputs), output_names=["speech"]
                )
                made.save(temporary, external_data=False)
            try_out(runner(temporary), network, path)
            readable(temporary)
    return path


@contextlib.contextmanager
def _readable_flags() -> Iterator[None]:
    """torch.export asks for a flag by an older name, which torch refuses to tell once the newer ones have been set."""
    parts = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [part.fp32_precision for part in parts]
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        for part, setting in zip(parts, before, strict=True):
            part.fp32_precision = setting


def runner(path: Path) -> Callable[[Mapping[str, torch.Tensor]], torch.Tensor] | None:
    """What computes with the graph of a file; None where there is no program for it."""
    if path.suffix == ".pt2":
        module = torch.export.load(path).module()
        return lambda inputs: module(**inputs)
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(session.run(None, {name: x.numpy() for name, x in inputs.items()})[0])


def try_out(run: Callable[[Mapping[str, torch.Tensor]], torch.Tensor] | None, network: LiMuSE, path: Path) -> None:
    """Compare a graph with the network.

    Raises:
        ValueError: they differ.
    """
    if run is None:
        log.warning("%s was not tried: there is no onnxruntime", path)
        return
    middle = next(n for n in range(TRACED, 2 * TRACED) if network.frames(n) % 32 == 16)
    for samples in (*(round(TRACED * part) for part in TRIED), middle):
        inputs = example(network, samples)
        expected = network(**inputs)
        off = float((run(inputs) - expected).abs().max() / expected.abs().max().clamp(min=1e-20))
        if off > TOLERANCE and network.activation_bits is not None and path.suffix == ".onnx":
            log.warning(
                "%s differs from the network by %.2g of the peak: rounded activations make little of a difference in "
                "the last bits into a large one, as between any two machines; weights alone (activation_bits=null) "
                "would not", path, off,
            )  # fmt: skip
            return
        if not off <= TOLERANCE:
            raise ValueError(f"{path} is not written: for {samples} samples the graph is off by {off:.2g} of the peak")


def example(network: LiMuSE, samples: int) -> dict[str, torch.Tensor]:
    """Inputs of a length, by name."""
    draw = torch.Generator().manual_seed(0)
    inputs = {"mixture": 0.1 * torch.randn(1, network.channels, samples, generator=draw)}
    if "voiceprint" in network.cues:
        inputs["voiceprint"] = torch.randn(1, network.voiceprint_dim, generator=draw)
    if "visual" in network.cues:
        inputs["visual"] = torch.randn(1, -(-samples // FACE_HOP), network.visual_dim, generator=draw)
    return inputs
