"""Crops with the features of their frames: aligned, in both forms, and refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from data.aligned_features import FeatureCrops, read_feature_list

HOP = 320
FACTS = {"teacher": "abc", "teacher_layer": "avg"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """u0 to u3 with features that say which file and frame they are of; every sample says which frame it is in."""
    folder = tmp_path / "features"
    folder.mkdir()
    lines = []
    for i, samples in enumerate((6400, 10 * HOP + 1, 3 * HOP, 700)):
        frames = -(-samples // HOP)
        wav = (np.arange(samples) // HOP + 1) / 100
        sf.write(tmp_path / f"u{i}.wav", wav, 16000, subtype="FLOAT")
        rows = np.stack([np.full(frames, i), np.arange(frames)], 1).astype("float16")
        np.save(folder / f"u{i}.npy", rows)
        lines.append(f"u{i} u{i}.wav\n")
    (tmp_path / "list.scp").write_text("".join(lines))
    (folder / "features.json").write_text(json.dumps({**FACTS, "other": 1}))
    return tmp_path


def crops(corpus: Path, **settings: object) -> FeatureCrops:
    defaults = dict(utterances=corpus / "list.scp", length=5 * HOP, hop_length=HOP, features=corpus / "features", dim=2)
    return FeatureCrops(**{**defaults, "facts": FACTS, **settings})


def test_a_crop_has_the_features_of_its_own_frames(corpus: Path) -> None:
    data, starts = crops(corpus), set()
    for epoch in range(12):
        for index in range(4):
            item = data[epoch, index]
            wav, rows = item["wav"], item["features"]
            assert wav.shape == (5 * HOP,) and item["index"] == index
            frames = -(-int(item["length"]) // HOP)
            assert item["frames"] == frames == len(rows)
            assert torch.allclose(100 * wav[: frames * HOP : HOP] - 1, rows[:, 1], atol=1e-4)  # the same frames
            assert not wav[int(item["length"]) :].any()
            starts.add((int(rows[0, 0]), int(rows[0, 1])))
    assert len(starts) > 12 and {which for which, _ in starts} == {0, 1, 2, 3}
    assert {start for which, start in starts if which in (2, 3)} == {0}


def test_an_index_alone_is_cut_from_the_beginning_and_not_padded(corpus: Path) -> None:
    data = crops(corpus)
    assert [int(data[i]["length"]) for i in range(4)] == [1600, 1600, 960, 700]
    assert [len(data[i]["wav"]) for i in range(4)] == [1600, 1600, 960, 700]
    batch = data.collate([data[i] for i in range(4)])
    assert batch["wav"].shape == (4, 1600) and batch["features"].shape == (4, 5, 2)
    assert not batch["wav"][3, 700:].any() and batch["frames"].tolist() == [5, 5, 3, 3]


def test_items_follow_from_the_seed_and_their_key_alone(corpus: Path) -> None:
    one, other = crops(corpus, seed=3), crops(corpus, seed=3)
    assert torch.equal(one[5, 1]["wav"], other[5, 1]["wav"])
    assert any(not torch.equal(one[5, i]["wav"], crops(corpus, seed=4)[5, i]["wav"]) for i in range(4))


def test_without_features_there_are_none(corpus: Path) -> None:
    data = crops(corpus, features=None)
    assert data[0, 0].keys() == {"wav", "length", "index"} and not data.has_features
    assert len(crops(corpus, features=None, limit=2)) == 2


def test_features_may_have_an_axis_in_front(corpus: Path) -> None:
    path = corpus / "features/u0.npy"
    np.save(path, np.load(path)[None].astype("float32"))
    assert crops(corpus)[0]["features"].shape == (5, 2)


def test_the_public_list_is_used_frame_for_frame(corpus: Path) -> None:
    lines = []
    for i, samples in enumerate((6400, 3201)):
        frames = (samples - 400) // 320 + 1
        np.save(corpus / f"p{i}.npy", np.arange(frames * 2, dtype="float32").reshape(1, frames, 2))
        lines.append(f"u{i}.wav\tp{i}.npy\n")
    (corpus / "public.txt").write_text("".join(lines))
    named, is_public = read_feature_list(corpus / "public.txt")
    assert is_public and named["u0.wav"] == (corpus / "u0.wav", corpus / "p0.npy")
    data = crops(corpus, utterances=corpus / "public.txt", features=None)
    assert data[0]["features"].tolist()[:2] == [[0, 1], [2, 3]] and data[0]["frames"] == 5
    whole = crops(corpus, utterances=corpus / "public.txt", features=None, length=40 * HOP)
    assert whole[0]["frames"] == 19 and whole[0]["length"] == 6400
    with pytest.raises(ValueError, match="names features itself"):
        crops(corpus, utterances=corpus / "public.txt")
    (corpus / "public.txt").write_text("u0.wav\tp0.npy\nu1 u1.wav\n")
    with pytest.raises(ValueError, match="line 2 is not of the form audio<TAB>features.npy"):
        read_feature_list(corpus / "public.txt")


def test_features_that_do_not_fit_their_audio_are_named_with_both_counts(corpus: Path) -> None:
    path = corpus / "features/u1.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(ValueError, match=r"u1.npy has 10 frames, .*u1.wav of 3201 samples has 11"):
        crops(corpus)
    np.save(corpus / "p.npy", np.zeros((1, 20, 2), dtype="float32"))
    (corpus / "public.txt").write_text("u0.wav\tp.npy\n")
    with pytest.raises(ValueError, match=r"p.npy has 20 frames, .*u0.wav of 6400 samples has 19"):
        crops(corpus, utterances=corpus / "public.txt", features=None)


def test_features_of_another_kind_are_refused(corpus: Path) -> None:
    with pytest.raises(ValueError, match="teacher abc there, xyz in the recipe; .*teacher_features"):
        crops(corpus, facts={**FACTS, "teacher": "xyz"})
    with pytest.raises(ValueError, match="has 2 channels, semantic_dimension is 3"):
        crops(corpus, dim=3)
    np.save(corpus / "features/u2.npy", np.zeros((3, 2), dtype="int64"))
    with pytest.raises(ValueError, match="u2.npy must hold floats"):
        crops(corpus)
    (corpus / "features/u2.npy").write_text("no array")
    with pytest.raises(ValueError, match="u2.npy cannot be read as features"):
        crops(corpus)
    (corpus / "features/u2.npy").unlink()
    with pytest.raises(FileNotFoundError, match="features of 1 of 4 utterances are missing in .*: u2.npy"):
        crops(corpus)
    (corpus / "features/features.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no features.json"):
        crops(corpus)
    with pytest.raises(FileNotFoundError, match="no such folder of features"):
        crops(corpus, features=corpus / "ghost")


def test_lengths_that_cannot_be_are_refused(corpus: Path) -> None:
    with pytest.raises(ValueError, match="multiple of 320 samples.*got 1000 and None"):
        crops(corpus, length=1000)
