"""Lists of utterances, and crops that are functions of their keys."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from data import audio
from data.speakers import read_index
from data.utterances import OverlappedUtterances, UtteranceCrops, list_utterances, read_utterances
from tests.toy import write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_speaker_index_and_a_list_name_their_utterances(corpus) -> None:
    index = corpus["tr_data_scp_path"]
    files = {path.resolve() for paths in read_index(index).values() for path in paths}
    named = read_utterances(index)
    assert {path.resolve() for path in named.values()} == files
    assert all(not name.startswith("/") and ".." not in name and not name.endswith((".wav", ".flac")) for name in named)
    assert list(read_utterances(corpus["cv_mix_path"]).values())[0].exists()


def test_two_files_of_one_name_are_refused(tmp_path) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"a": ["x.wav", "x.flac"]}))
    with pytest.raises(ValueError, match="same name, x"):
        read_utterances(tmp_path / "index.json")


def test_every_utterance_once_in_an_epoch_and_in_another_order_in_the_next(corpus) -> None:
    data = UtteranceCrops(utterances=corpus["tr_data_scp_path"], length=8000, seed=3)
    first, second = ([data[epoch, i]["wav"].numpy().tobytes() for i in range(len(data))] for epoch in (0, 1))
    assert len(set(first)) == len(data) and first != second
    again = UtteranceCrops(utterances=corpus["tr_data_scp_path"], length=8000, seed=3)
    assert same(again[1, 2], data[1, 2]) and same(again[2], data[2])


def test_a_short_utterance_is_padded_and_its_length_told(corpus) -> None:
    paths = list(read_utterances(corpus["tr_data_scp_path"]).values())
    data = UtteranceCrops(utterances=corpus["tr_data_scp_path"], length=10**6)
    whole, item = audio.read(paths[1]), data[1]
    assert item["length"] == len(whole) and item["wav"].shape == (10**6,)
    assert np.array_equal(item["wav"][: len(whole)].numpy(), whole) and not item["wav"][len(whole) :].any()
    assert len(UtteranceCrops(utterances=corpus["tr_data_scp_path"], length=5, limit=2)) == 2


def test_another_talker_lies_over_a_part_at_a_known_ratio(corpus) -> None:
    settings = dict(speakers=corpus["tr_data_scp_path"], length=8000, seed=3)
    data = OverlappedUtterances(**settings, overlap_probability=1.0, overlap_share=0.5, overlap_range_db=3.0)
    ratios = []
    for index in range(len(data)):
        item = data[0, index]
        assert same(item, data[0, index])
        added = (item["mixture"] - item["target"]).numpy()
        sounding = np.flatnonzero(added)
        begin, end = sounding[0], sounding[-1] + 1
        assert end - begin <= 4000
        under = item["target"][begin:end].numpy()
        ratios.append(10 * np.log10((under**2).mean() / (added[begin:end] ** 2).mean()))
    assert max(np.abs(ratios)) < 3.2 and np.ptp(ratios) > 1
    alone = OverlappedUtterances(**settings, overlap_probability=0.0)[0, 0]
    assert torch.equal(alone["mixture"], alone["target"])


def test_wrong_settings_are_named(corpus) -> None:
    index = corpus["tr_data_scp_path"]
    with pytest.raises(ValueError, match="got 0 and None"):
        UtteranceCrops(utterances=index, length=0)
    with pytest.raises(ValueError, match="overlap_probability"):
        OverlappedUtterances(speakers=index, length=8000, overlap_probability=1.5)


def test_an_entry_that_is_no_path_is_a_problem_beside_the_others(tmp_path) -> None:
    (tmp_path / "a.scp").write_text("u1 cat x.wav |\nu2 x.wav\n")
    found = list_utterances(tmp_path / "a.scp")
    assert found.entries == {"u2": f"{tmp_path}/x.wav"} and "not run" in found.problems["u1"]
    with pytest.raises(ValueError, match="commands in lists are not run"):
        read_utterances(tmp_path / "a.scp")


def test_crops_at_another_rate(corpus) -> None:
    index = corpus["tr_data_scp_path"]
    at_24 = UtteranceCrops(utterances=index, length=12_000, sample_rate=24_000)[0]
    path = next(iter(read_utterances(index).values()))
    assert at_24["wav"].shape == (12_000,)
    assert at_24["length"] == min(12_000, audio.num_samples(path, sample_rate=24_000))
