"""One table of several values of a key: what it is asked with, what the streams take, and a codec end to end."""

from __future__ import annotations

import json

import pytest

from evaluation.sweep import bits_per_second, markdown, parse_each, put_together
from tests.codec import REFERENCE
from tests.toy import call

TOKENS = {"sample_rate": 16000, "hop_length": 320, "codebooks": ["a", "b", "c", "d"], "vocab_size": 1024}


def test_a_key_and_its_values() -> None:
    assert parse_each("codebooks=1,2, 8") == ("codebooks", ["1", "2", "8"])


@pytest.mark.parametrize("text", ["codebooks", "=1,2", "codebooks=", "codebooks=1,,2", "codebooks=1,1", "key=../a,b"])
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="--each"):
        parse_each(text)


def test_the_bitrate_is_that_of_the_streams_in_use() -> None:
    assert bits_per_second(TOKENS) == 4 * 50 * 10
    assert bits_per_second({**TOKENS, "first_codebook": 1, "vocab_size": 1000}) == 3 * 50 * 10
    assert bits_per_second({"bits_per_second": 362.5, **TOKENS}) == 362.5
    assert bits_per_second({"sample_rate": 16000}) is None and bits_per_second({}) is None


def test_a_metric_that_one_value_lacks_leaves_a_gap() -> None:
    column = {"title": "STOI", "unit": "", "better": "higher", "definition": "d"}
    scored = {"extracted": {"mean": 0.5, "low": 0.4, "high": 0.6, "count": 2, "failed": 0}}
    with_it = {
        "metrics": {"stoi": {**column, "systems": scored}},
        "scored": 2,
        "bits_per_second": 500,
        "unavailable": {},
        "interval": "95 % over something",
    }
    without = {**with_it, "metrics": {}, "bits_per_second": None, "unavailable": {"stoi": "not installed"}}
    text = markdown(put_together("codebooks", {"1": with_it, "2": without}))
    assert "| 1 | 500 bit/s | 0.500 [0.400, 0.600] | 2 |" in text and "| 2 | – | – | 2 |" in text
    assert "stoi could not run: not installed" in text and "Brackets: 95 % over something." in text


@pytest.mark.slow
def test_a_codec_with_one_and_two_codebooks_in_one_command(tmp_path) -> None:
    pytest.importorskip("pystoi", reason="requirements-eval.txt is not installed")
    folder = REFERENCE / "elu"
    wav = sorted((REFERENCE / "test").glob("*.wav"))[0]
    (tmp_path / "list.scp").write_text(f"{wav.stem} {wav}\n")
    command = (
        "evaluate.py", "-scp", tmp_path / "list.scp", "--output", tmp_path / "out", "-gpus", "cpu", "-proc", "1",
        "-config", "config/speechtokenizer.yaml", "-ckpt", folder / "SpeechTokenizer.pt", "--metrics", "mel",
        "--override", f"codec_config={folder / 'config.json'}", "--each", "codebooks=1,2",
    )  # fmt: skip
    done = call(*command)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/table.json").read_text())
    one, two = found["rows"]
    assert found["key"] == "codebooks" and (one["value"], two["value"]) == ("1", "2")
    assert two["bits_per_second"] == 2 * one["bits_per_second"] > 0
    assert one["metrics"]["mel"]["mean"] > 0 and one["files"] == 1
    assert (tmp_path / "out/table.md").read_text() in done.stdout
    for flags in (["--each", "codebooks=1"], ["--each", "codebooks"], ["--shard", "1/2", "--each", "codebooks=1,2"]):
        where = ("-scp", tmp_path / "list.scp", "--output", tmp_path / "no")
        assert call("evaluate.py", *where, *flags).returncode == 2
    assert not (tmp_path / "no").exists()
