"""Packed models and graphs from the command line."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from models.limuse import graph
from models.limuse.export import main
from models.load import load_model
from tests.limuse import RECIPE, checkpoint, flags, inputs, network, overrides


def run(output: Path, which: str = "full", **values) -> int:
    files = ["--config_path", RECIPE, "--ckpt_path", values.pop("ckpt", checkpoint(which)), "--output", output]
    return main([*map(str, files), *flags(which, **values)])


def test_a_packed_model_gives_its_sources_output(tmp_path, capsys) -> None:
    path = tmp_path / "small.safetensors"
    assert run(path, "quantised") == 0 and "bytes" in capsys.readouterr().out
    made = [load_model(RECIPE, x, overrides=overrides("quantised")) for x in (checkpoint("quantised"), path)]
    assert torch.equal(*(model.extract(**inputs("utt1")) for model in made))
    assert made[0].digests() == made[1].digests()
    assert run(tmp_path / "again.safetensors", "quantised", ckpt=path) == 2
    assert "packed already" in capsys.readouterr().err


def test_what_cannot_be_exported_is_named(tmp_path, capsys, monkeypatch) -> None:
    for output, words, more in (
        ("a.tflite", ".safetensors, .onnx, .pt2", {}),
        ("a.safetensors", "nowhere.pt", {"ckpt": "nowhere.pt"}),
        ("a.safetensors", "groups", {"groups": 5}),
    ):
        assert run(tmp_path / output, **more) == 2
        assert words in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(tmp_path / "a.onnx") == 2
    assert "requirements-onnx.txt" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("which", ["full", "quantised"])
def test_an_exported_program_is_the_network_at_other_lengths(tmp_path, which: str) -> None:
    net = network(which, layers=1, audio_repeats=1, context_layers=1)
    if net.quantised:
        net.quantiser.start(net.quantised_weights())
        net.harden()
    compare(graph.write(tmp_path / "a.pt2", net), net, (257, 272, 1000, 16 * 47 + 32, 30_001), 1e-5)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="onnxscript is not installed")
def test_an_onnx_graph_is_the_network_at_any_length(tmp_path) -> None:
    net = network("quantised", activation_bits=None, layers=1, audio_repeats=1, context_layers=1)
    net.quantiser.start(net.quantised_weights())
    net.harden()
    compare(graph.write(tmp_path / "a.onnx", net), net, (1, 33, 100, 272, 1000, 16 * 47 + 32, 30_001), 1e-3)


def compare(path: Path, net, lengths: tuple[int, ...], limit: float) -> None:
    run_graph = graph.runner(path)
    for samples in lengths:
        given = graph.example(net, samples)
        with torch.no_grad():
            wanted = net(**given)
        assert (run_graph(given) - wanted).abs().max() <= limit * wanted.abs().max(), samples


def test_a_graph_that_computes_something_else_is_not_written(tmp_path) -> None:
    with torch.no_grad(), pytest.raises(ValueError, match="off by"):
        graph.try_out(lambda given: given["mixture"][:, 0], network(), tmp_path / "a.pt2")
