"""Trained weights in every form, read strictly; nothing in them runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.limuse import packing
from models.limuse.files import load_weights
from tests.limuse import DIMS, REFERENCE, checkpoint, expected, network
from utils import checkpoint as ours


class Payload:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def released(tmp_path: Path, which: str = "full", **changes) -> Path:
    """A copy of a released checkpoint with other content."""
    content = torch.load(checkpoint(which), weights_only=True)
    path = tmp_path / "best.pt"
    torch.save(content | changes, path)
    return path


def hard_state(path: Path) -> dict[str, torch.Tensor]:
    loaded = network("quantised")
    load_weights(loaded, path)
    loaded.harden()
    return loaded.state_dict()


@pytest.mark.parametrize(
    ("which", "more", "words"),
    [
        ("full", {"cues": ["visual"]}, "voiceprint_encoder"),
        ("full", {"context_codec": False}, "context_dec_1"),
        ("full", {"groups": 12}, "of another shape"),
        ("full", {"quantised": True}, "in full precision, and the recipe quantised"),
        ("quantised", {"quantised": False}, "quantised, and the recipe in full precision"),
        ("no_codec", {"context_codec": True}, "context_dec_1"),
    ],
)
def test_a_file_of_another_network_is_refused(which: str, more: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        load_weights(network(which, **more), checkpoint(which))
    assert "best.pt" in str(refusal.value)


def test_missing_tensors_and_odd_scales_are_named(tmp_path: Path) -> None:
    state = torch.load(checkpoint(), weights_only=True)["model_state_dict"]
    path = released(tmp_path, model_state_dict={n: x for n, x in state.items() if n != "decoder.bias"})
    with pytest.raises(ValueError, match=r"best\.pt.*decoder\.bias"):
        load_weights(network(), path)
    with pytest.raises(ValueError, match="alpha must be a list"):
        load_weights(network("quantised"), released(tmp_path, "quantised", alpha=3))
    torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match="model_state_dict"):
        load_weights(network(), path)
    torch.save(released(tmp_path, model_state_dict={f"module.{n}": x for n, x in state.items()}), tmp_path / "x")
    load_weights(network(), path)  # as DistributedDataParallel names them


def test_thresholds_are_beside_the_checkpoint_or_named(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    shutil.copy(checkpoint("quantised"), path)
    with pytest.raises(FileNotFoundError, match=r"bias\.npy.*thresholds_path"):
        load_weights(network("quantised"), path)
    load_weights(network("quantised"), path, thresholds_path=REFERENCE / "quantised/bias.npy")
    found = np.load(REFERENCE / "quantised/bias.npy")
    for wrong, words in (
        (found[:-1], r"bias\.npy should have 6 thresholds for each of the 160.*\[159, 6\]"),
        (found[:, :-1], r"bias\.npy should have 6.*\[160, 5\]"),
        (found[:, ::-1], "do not ascend"),
        (np.array([{}], dtype=object), "cannot be read"),
    ):
        np.save(tmp_path / "bias.npy", wrong)
        with pytest.raises(ValueError, match=words):
            load_weights(network("quantised"), path)


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    for name, content in (
        ("best.pt", {"model_state_dict": {}, "alpha": Payload(tmp_path / "ran")}),
        ("best_model.pt", Payload(tmp_path / "ran")),
    ):
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match="could run code"):
            load_weights(network(), tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_checkpoints_of_this_project(tmp_path: Path) -> None:
    net = network()
    load_weights(net, checkpoint())
    content = {"model": ours.flatten({"network": net.state_dict()}), "settings": net.facts()}
    ours.save(tmp_path / "a.pth", content)
    other = network()
    assert load_weights(other, tmp_path / "a.pth")["groups"] == 6
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match="context_length is 32 in the file, 16 in the recipe"):
        load_weights(network(context_length=16), tmp_path / "a.pth")  # no shape tells of it


def test_a_packed_model_is_its_source_to_the_bit(tmp_path: Path) -> None:
    source = network("quantised")
    load_weights(source, checkpoint("quantised"))
    path = packing.write(tmp_path / "small.safetensors", source, {"voiceprints": "files"})
    tensors = load_file(path)
    assert {"codes", "alpha", "rest"} == tensors.keys()
    codes = packing.unpacked_bits(tensors["codes"], 3, DIMS["quantised"]["weights"])
    assert int(codes.long().sum()) == DIMS["quantised"]["codes_sum"]
    a, b = hard_state(checkpoint("quantised")), hard_state(path)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    for key, x in expected().items():
        if key.startswith("quantised_weight/"):
            assert (a[key.partition("/")[2]] - x).abs().max() < 1e-7
    assert load_weights(network("quantised"), path)["voiceprints"] == "files"


def test_full_precision_is_packed_too(tmp_path: Path) -> None:
    source = network()
    load_weights(source, checkpoint())
    path = packing.write(tmp_path / "float.safetensors", source, {})
    assert load_file(path).keys() == {"rest"}
    other = network()
    load_weights(other, path)
    assert all(torch.equal(x, source.state_dict()[name]) for name, x in other.state_dict().items())
    with pytest.raises(ValueError, match="in full precision, and the recipe quantised"):
        load_weights(network("quantised"), path)


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_of_any_bits_come_back(bits: int) -> None:
    codes = torch.randint(0, 2**bits - 1, (1001,), dtype=torch.uint8)
    packed = packing.packed_bits(codes, bits)
    assert len(packed) == -(-1001 * bits // 8)
    assert torch.equal(packing.unpacked_bits(packed, bits, 1001), codes)
    assert int(packed[0]) & (2**bits - 1) == int(codes[0])  # the lowest bit first


def test_broken_packed_models_are_refused(tmp_path: Path) -> None:
    source = network("quantised")
    whole = packing.write(tmp_path / "a.safetensors", source, {}).read_bytes()
    for content in (whole[:-100], b"", b"not a model"):
        (tmp_path / "b.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"b\.safetensors"):
            load_weights(network("quantised"), tmp_path / "b.safetensors")
    (tmp_path / "b.safetensors").write_bytes(whole)
    for more, words in (({"groups": 1}, "groups is 6 in the file, 1"), ({"weight_bits": 4}, "weight_bits is 3")):
        with pytest.raises(ValueError, match=words):
            load_weights(network("quantised", **more), tmp_path / "b.safetensors")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_weights(network(), tmp_path / "nowhere.safetensors")
