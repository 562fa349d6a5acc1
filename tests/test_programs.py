"""The programs of any system: a 24 kHz codec of two codebooks goes through all of them, and nothing knows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from models import load_extractor
from models.load import load_program, offered
from running.record import read_runs
from tests.toy import ROOT, call, flags
from utils.recipe import Recipe

RECIPE = """
codec: !new:tests.dummy_codec.DummyCodec
tokenizer: !ref <codec>
vocoder: !ref <codec>
"""
SAMPLES = {"a": 24000, "b": 12345, "c": 481, "d": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The recipe, and lists of targets at 24 kHz: audio.scp, s1.scp."""
    folder = tmp_path_factory.mktemp("codec")
    (folder / "codec.yaml").write_text(RECIPE)
    rng = np.random.default_rng(0)
    lines = []
    for name, samples in SAMPLES.items():
        sf.write(folder / f"{name}.flac", 0.3 * rng.standard_normal(samples).clip(-3, 3), 24000)
        lines.append(f"{name} {name}.flac\n")
    (folder / "s1.scp").write_text("".join(lines))
    return folder


def run(folder: Path, job: str, where: object, output: Path, *more: object, processes: int = 1):
    given = ("-config", folder / "codec.yaml", "--output", output, "-gpus", "cpu", "-proc", processes)
    return call("inference.py", job, where, *given, *more)


def test_tokenize_decode_and_resynthesise_agree(folder: Path, tmp_path: Path) -> None:
    from tests.dummy_codec import DummyCodec

    codec = DummyCodec()
    done = run(folder, "--tokenize", folder / "s1.scp", tmp_path / "tokens")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "tokens/tokens.json").read_text())
    assert record["tokenizer"] == "dummy" and record["codebooks"] == ["first", "middle"]
    assert (record["sample_rate"], record["hop_length"], record["vocab_size"]) == (24000, 480, 256)
    lines = [f"{name} tokens/{name}.npy\n" for name in SAMPLES]
    (tmp_path / "tokens.scp").write_text("".join(lines))
    assert run(folder, "--decode", tmp_path / "tokens.scp", tmp_path / "decoded").returncode == 0
    done = run(folder, "--resynthesize", folder / "s1.scp", tmp_path / "again", "--save-tokens")
    assert done.returncode == 0, done.stderr
    for name, samples in SAMPLES.items():
        tokens = np.load(tmp_path / f"tokens/{name}.npy")
        wav = sf.read(folder / f"{name}.flac", dtype="float32")[0]
        assert np.array_equal(tokens, codec.encode(torch.from_numpy(wav)[None])[0].numpy())
        decoded, rate = sf.read(tmp_path / f"decoded/{name}.wav")
        again, _ = sf.read(tmp_path / f"again/{name}.wav")
        assert rate == 24000 and len(decoded) == 480 * len(tokens) and len(again) == samples
        assert np.array_equal(again, decoded[:samples])
        assert np.array_equal(np.load(tmp_path / f"again/tokens/{name}.npy"), tokens)


def test_evaluation_of_a_codec_needs_targets_alone(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "--resynthesise", folder / "s1.scp", tmp_path).returncode == 0
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "s1.scp").write_text("".join(f"{name} {folder / name}.flac\n" for name in ("a", "b")))
    for where in (lists, lists / "s1.scp"):
        done = call(
            "evaluate.py", "-scp", where, "--output", tmp_path, "-config", folder / "codec.yaml", "-gpus", "cpu",
            "-proc", "1", "--metrics", "si_sdr", "tokens", "--floor-and-ceiling", "--length-tolerance", "0.001",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads((tmp_path / "summary.json").read_text())
        assert found["scored"] == 2 and found["systems"] == ["extracted", "ceiling"]
        systems = found["metrics"]["si_sdr"]["systems"]
        assert systems["extracted"]["mean"] == pytest.approx(systems["ceiling"]["mean"])  # it is the ceiling
        assert found["metrics"]["token_error"]["systems"]["extracted"]["count"] == 2


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 3), np.int16), r"tokens [N, 2] are needed, N above 0, got [5, 3]"),
        (np.zeros((0, 2), np.int16), "got [0, 2]"),
        (np.zeros(5, np.int16), "got [5]"),
        (np.full((5, 2), 256), "tokens must be in [0, 256), got 256 to 256"),
        (np.full((5, 2), -1), "got -1 to -1"),
        (np.zeros((5, 2)), "tokens are integers"),
        (np.array([{}, 1]), "as an array of numbers"),
        (None, "no such array file"),
    ],
)
def test_bad_tokens_fail_alone_and_are_named(folder: Path, tmp_path: Path, array, message: str) -> None:
    if array is not None:
        np.save(tmp_path / "bad.npy", array)
    np.save(tmp_path / "good.npy", np.zeros((7, 2), np.int64))
    (tmp_path / "list.scp").write_text("bad bad.npy\ngood good.npy\n")
    done = run(folder, "--decode", tmp_path / "list.scp", tmp_path / "out")
    assert done.returncode == 1 and message in done.stderr and "failed: bad" in done.stderr, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.wav")) == ["good.wav"]


def test_shards_of_a_list_are_the_list(folder: Path, tmp_path: Path) -> None:
    for index in (1, 2, 3):
        done = run(folder, "--resynthesise", folder / "s1.scp", tmp_path / "parts", "--shard", f"{index}/3")
        assert done.returncode == 0, done.stderr
        if index == 1:
            done = call(
                "evaluate.py",
                "-scp",
                folder / "s1.scp",
                "--output",
                tmp_path / "parts",
                "--metrics",
                "si_sdr",
                "-proc",
                1,
            )
            assert done.returncode == 1 and "could not be scored" in done.stderr
            assert "no output" in (tmp_path / "parts/summary.md").read_text()
    assert run(folder, "--resynthesise", folder / "s1.scp", tmp_path / "whole").returncode == 0
    for name in SAMPLES:
        assert (tmp_path / f"parts/{name}.wav").read_bytes() == (tmp_path / f"whole/{name}.wav").read_bytes()
    runs = read_runs(tmp_path / "parts/inference.json")
    assert [one["shard"] for one in runs] == ["1/3", "2/3", "3/3"] and sum(one["files"] for one in runs) == 4
    done = run(folder, "--resynthesise", folder / "s1.scp", tmp_path / "parts")
    assert done.returncode == 0 and "4 of 4 files are there already" in done.stderr


def test_evaluation_in_shards_is_the_evaluation(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "s1.scp").write_text("".join(f"{name} {folder / name}.flac\n" for name in ("a", "b", "c")))
    assert run(folder, "--resynthesise", folder / "s1.scp", tmp_path / "out").returncode == 0
    evaluate = ("evaluate.py", "-scp", tmp_path / "s1.scp", "--output", tmp_path / "out", "--metrics", "si_sdr")
    evaluate = (*evaluate, "--length-tolerance", "0.001", "-proc", 1)
    for index in (1, 2):
        assert call(*evaluate, "--shard", f"{index}/2").returncode == 0
        assert not (tmp_path / "out/summary.json").exists()
    assert call(*evaluate).returncode == 0
    together = (tmp_path / "out/summary.json").read_bytes()
    for path in (tmp_path / "out").glob("metrics*.jsonl"):
        path.unlink()
    assert call(*evaluate).returncode == 0 and (tmp_path / "out/summary.json").read_bytes() == together


# -- what a recipe offers ----------------------------------------------------------------------------------------------


def test_a_recipe_offers_what_it_names(folder: Path) -> None:
    assert offered(Recipe(folder / "codec.yaml")) == ("tokenize", "decode", "resynthesise")
    assert offered(Recipe(ROOT / "config/tselm_l.yaml")) == ("extract", "tokenize", "decode", "resynthesise")
    assert offered(Recipe(ROOT / "config/kmeans.yaml")) == ()
    with pytest.raises(ValueError, match="offers tokenize, decode, resynthesise; not extract"):
        load_program(Recipe(folder / "codec.yaml"), "extract", None)


def test_what_is_no_extractor_is_not_loaded_as_one(tmp_path: Path) -> None:
    (tmp_path / "codec.yaml").write_text("model: !new:tests.dummy_codec.DummyCodec\n")
    with pytest.raises(ValueError, match="a DummyCodec, does not extract"):
        load_extractor(tmp_path / "codec.yaml", None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), ("Which system?", "-config FILE", "config/tselm_l.yaml", "--help")),
        (("-config", "config/tselm_l.yaml"), ("can extract, tokenize, decode, resynthesise", "-scp FOLDER --output")),
        (("-config", "config/kmeans.yaml"), ("it only trains",)),
    ],
)
def test_a_prompt_that_leads(arguments: tuple[str, ...], told: tuple[str, ...]) -> None:
    done = call("inference.py", *arguments)
    assert done.returncode == 2 and all(text in done.stdout for text in told), done.stdout


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    for name in ("o.mp3", "o.txt", "o", "."):
        done = call(
            "inference.py", "-config", "config/tselm_l.yaml", "-ckpt", "/nowhere/a.pth", "--mixture", "a.wav",
            "--enrolment", "b.wav", "--output", tmp_path / name, *flags(),
        )  # fmt: skip
        assert done.returncode == 2 and ".flac" in done.stderr and "/nowhere" not in done.stderr, done.stderr
