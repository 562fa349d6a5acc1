"""What a language model of units learns from: chunks of chapters, and whole utterances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.unit_chunks import UnitChunks, UnitUtterances


def write(folder: Path, **files: list[int]) -> Path:
    for name, units in files.items():
        path = folder / f"{name.replace('_', '/')}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.array(units, np.int16))
    return folder


def chunks(folder: Path, **settings: object) -> UnitChunks:
    return UnitChunks(units=folder, num_clusters=9, **{"chunk_size": 8, **settings})


def test_a_chunk_goes_on_within_its_chapter_alone_and_without_repeats(tmp_path: Path) -> None:
    write(tmp_path, a_1=[1, 1, 2], a_2=[3, 3], b_1=[4, 4, 5])
    whole = {1: [0, 2, 3, 0, 4], 3: [0, 4], 4: [0, 5, 6]}  # by the first unit of the utterance that it begins in
    seen = set()
    data = chunks(tmp_path, items=200)
    for index in range(200):
        item = data[0, index]
        ids = item["symbols"].tolist()
        begins = [(unit, place) for unit, all_ in whole.items() for place in range(len(all_)) if all_[place:] == ids]
        assert begins and len(ids) > 1
        seen.add(begins[0])
        assert item["is_target"].tolist() == [ids[0] == 0] + [True] * (len(ids) - 2)
    assert len(seen) == 4 - 1 + 1 + 2  # every place but those from which one id is left


def test_a_chunk_is_cut_at_its_size(tmp_path: Path) -> None:
    write(tmp_path, a_1=[1, 2] * 20, a_2=[3, 4] * 20)
    assert max(len(chunks(tmp_path, items=20)[0, i]["symbols"]) for i in range(20)) == 8


def test_a_chapter_whose_files_are_not_side_by_side_stays_one(tmp_path: Path) -> None:
    write(tmp_path, a=[1, 2], m_x=[5, 6], z=[3, 4])  # the folder m lies between them in the order of paths
    found = {tuple(chunks(tmp_path, items=60)[0, i]["symbols"].tolist()) for i in range(60)}
    assert (0, 2, 3, 0, 4, 5) in found and not any({6, 2} <= set(ids) for ids in found)


def test_epochs_are_parts_of_an_endless_series_of_permutations(tmp_path: Path) -> None:
    write(tmp_path, **{f"c{i}_x": [i] for i in range(6)})
    data = chunks(tmp_path, items=4)
    firsts = [int(data[i // 4, i % 4]["symbols"][1]) - 1 for i in range(12)]
    assert sorted(firsts[:6]) == sorted(firsts[6:]) == list(range(6)) and firsts[:6] != firsts[6:]
    assert [int(data[i // 4, i % 4]["symbols"][1]) - 1 for i in range(12)] == firsts


def test_validation_is_whole_utterances_with_their_frames(tmp_path: Path) -> None:
    write(tmp_path, a=[1, 1, 1, 2, 3, 3], b=[4] * 5)
    data = UnitUtterances(units=tmp_path, num_clusters=9, chunk_size=3)
    cut, whole = data[0], data[1]
    assert cut["symbols"].tolist() == [0, 2, 3] and cut["frames"] == 4 and bool(cut["is_target"].all())
    assert whole["symbols"].tolist() == [0, 5] and whole["frames"] == 5
    batch = UnitUtterances.collate([cut, whole])
    assert batch["symbols"].tolist() == [[0, 2, 3], [0, 5, 0]]
    assert batch["is_target"].tolist() == [[True, True], [True, False]] and batch["frames"].tolist() == [4, 5]
    assert batch["symbols"].dtype == torch.int64


@pytest.mark.parametrize("settings", [{"chunk_size": 1}, {"items": 0}])
def test_settings_that_make_no_chunk_are_named(tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="chunk_size|epoch_num"):
        chunks(write(tmp_path, a=[1, 2]), **settings)
