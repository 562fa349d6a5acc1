"""Segments of tokens and the waveform that they were made of, and what is said where they do not fit together."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from data.token_segments import TokenSegments

HOP = 320
LENGTHS = {"a": 60, "b/c": 51, "d.wav": 200, "e": 49, "f": 120}  # frames of the utterances
MANIFEST = {
    "tokenizer": "0" * 64,
    "sample_rate": 16000,
    "hop_length": HOP,
    "codebooks": ["layer_1", "layer_7"],
    "vocab_size": 1000,
    "runs": [],
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Frame n of utterance i has the tokens n and i, and sounds like the number n / 1000."""
    (tmp_path / "tokens/b").mkdir(parents=True)
    (tmp_path / "audio").mkdir()
    with open(tmp_path / "list.scp", "w") as file:
        for i, (name, frames) in enumerate(LENGTHS.items()):
            wav = np.repeat(np.arange(frames) / 1000, HOP)
            wav = wav[:-100] if i % 2 else np.append(wav, np.zeros(80))  # a tokenizer may pad, or leave a rest
            path = tmp_path / f"audio/{i}.wav"
            sf.write(path, wav, 16000, subtype="FLOAT")
            tokens = np.stack([np.arange(frames), np.full(frames, i)], axis=1)
            np.save(tmp_path / f"tokens/{name.removesuffix('.wav')}.npy", tokens.astype("int16" if i % 2 else "int32"))
            file.write(f"{name} audio/{i}.wav\n")
    (tmp_path / "tokens/tokens.json").write_text(json.dumps(MANIFEST))
    return tmp_path


def segments(folder: Path, **more: object) -> TokenSegments:
    settings = dict(codebooks=["layer_1", "layer_7"], vocab_size=1000, frames=28)
    return TokenSegments(utterances=folder / "list.scp", tokens=folder / "tokens", **{**settings, **more})


def test_a_frame_of_tokens_belongs_to_its_samples(folder) -> None:
    data = segments(folder)
    assert len(data) == 4
    for key in [(epoch, index) for epoch in range(25) for index in range(4)] + [0, 1, 2, 3]:
        item = data[key]
        assert item["tokens"].shape == (28, 2) and item["tokens"].dtype == torch.int64
        assert item["wav"].shape == (28 * HOP,) and item["wav"].dtype == torch.float32
        first = int(item["tokens"][0, 0])
        assert item["tokens"][:, 0].tolist() == list(range(first, first + 28))
        wanted = torch.arange(first, first + 28).repeat_interleave(HOP) / 1000
        wrong = (item["wav"] - wanted).abs() > 1e-6
        assert not wrong[:-100].any() and bool((item["wav"][wrong] == 0).all())  # the end of a file that is shorter


def test_items_are_functions_of_their_keys(folder) -> None:
    data, again = segments(folder), segments(folder)
    for key in [(0, 0), (0, 3), (7, 2), 1]:
        assert all(torch.equal(data[key][name], again[key][name]) for name in ("tokens", "wav"))
    fixed = [int(data[i]["tokens"][0, 0]) for i in range(4)]
    assert fixed == [int(segments(folder)[i]["tokens"][0, 0]) for i in range(4)]
    assert fixed != [int(segments(folder, seed=1)[i]["tokens"][0, 0]) for i in range(4)]


def test_each_utterance_once_in_an_epoch_and_every_place_of_it(folder) -> None:
    data = segments(folder, frames=48)
    starts = {number: set() for number in (0, 1, 2, 4)}
    for epoch in range(200):
        seen = [data[epoch, index]["tokens"][0].tolist() for index in range(4)]
        assert sorted(number for _, number in seen) == [0, 1, 2, 4]
        for start, number in seen:
            starts[number].add(start)
    assert starts[0] == set(range(13)) and starts[1] == set(range(4))


def test_short_utterances_are_left_out_and_told(folder, caplog) -> None:
    with caplog.at_level(logging.INFO):
        assert len(segments(folder)) == 4  # without the one of 49 frames
    assert "1 of 5 utterances left out, below 1.00 s" in caplog.text
    assert len(segments(folder, min_frames=0)) == 5
    assert len(segments(folder, frames=100)) == 2
    with pytest.raises(ValueError, match="none of the 5 utterances of .*list.scp has 201 frames"):
        segments(folder, frames=201)


def test_a_limit_is_spread_over_the_list(folder) -> None:
    assert [path.name for path, _ in segments(folder, limit=2).pairs] == ["0.wav", "2.wav"]
    assert len(segments(folder, limit=50)) == 4


def test_tokens_that_are_missing_are_named_with_the_command_that_makes_them(folder) -> None:
    for name in ("a", "b/c"):
        (folder / f"tokens/{name}.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokens of 2 of 5 .*a\.npy, b/c\.npy; .*--tokenize .*list\.scp"):
        segments(folder)
    (folder / "tokens/tokens.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no tokens\.json; make .*--tokenize .*--output .*tokens"):
        segments(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(vocab_size=50), "vocab_size 1000 there, 50 in the recipe"),
        (dict(hop_length=256), "hop_length 320 there, 256 in the recipe"),
        (dict(codebooks=[1, 3]), r"codebooks \['layer_1', 'layer_7'\] there, \['layer_1', 'layer_3'\] in the recipe"),
        (dict(codebooks=[1], vocab_size=5), "codebooks .*; vocab_size 1000 there"),
        (dict(frames=0), "got 0 and None"),
        (dict(limit=0), "got 28 and 0"),
    ],
)
def test_other_tokens_than_expected_are_refused(folder, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        segments(folder, **change)


def test_numbers_name_layers(folder) -> None:
    assert len(segments(folder, codebooks=[1, 7])) == 4


@pytest.mark.parametrize("text", ["", "[]", "{", '"layer_1"'])
def test_a_broken_manifest_is_one_error(folder, text: str) -> None:
    (folder / "tokens/tokens.json").write_text(text)
    with pytest.raises(ValueError, match=r"tokens\.json does not say"):
        segments(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((60, 3), dtype=np.int16), r"integers \[N, 2\], it has int16 \[60, 3\]"),
        (np.zeros(60, dtype=np.int16), r"it has int16 \[60\]"),
        (np.zeros((60, 2), dtype=np.float32), "it has float32"),
        (np.array([[None, None]] * 60, dtype=object), "cannot be read as tokens"),
        (b"", "cannot be read as tokens"),
        (b"\x93NUMPY and no more", "cannot be read as tokens"),
    ],
)
def test_files_that_are_no_tokens_are_refused_by_name(folder, content, message: str) -> None:
    if isinstance(content, bytes):
        (folder / "tokens/a.npy").write_bytes(content)
    else:
        np.save(folder / "tokens/a.npy", content, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"a\.npy .*{message}"):
        segments(folder)


def test_an_empty_utterance_is_left_out(folder) -> None:
    np.save(folder / "tokens/a.npy", np.zeros((0, 2), dtype=np.int16))
    assert len(segments(folder)) == 3


@pytest.mark.parametrize("token", [-1, 1000])
def test_a_token_outside_the_vocabulary_is_refused(folder, token: int) -> None:
    np.save(folder / "tokens/a.npy", np.full((60, 2), token, dtype=np.int16))
    with pytest.raises(ValueError, match=rf"a\.npy holds the token {token}, which is outside 0 to 999"):
        segments(folder)[0]


@pytest.mark.parametrize("frames", [57, 63])
def test_tokens_of_another_file_are_refused(folder, frames: int) -> None:
    np.save(folder / "tokens/a.npy", np.zeros((frames, 2), dtype=np.int16))
    with pytest.raises(ValueError, match=rf"a\.npy has {frames} frames of 320 samples, but .*0\.wav has 19280 samples"):
        segments(folder)[0]
