"""Items of extraction with cues: cut in step, and functions of the seed and their keys."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf
import torch

from data.cued_mixtures import CuedMixtures
from data.cues import CueLists
from data.loading import EvalBatches, TrainBatches
from tests.limuse_data import LISTING, PICKLE, write_pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "lists", [1.0, 0.71, 0.2, 0.45])


def lists(**more: object) -> CueLists:
    return CueLists(**{"voiceprint_dim": 6, "visual_dim": 4, **more})


def data(path, **more: object) -> CuedMixtures:
    return CuedMixtures(**{"lists": lists(), "path": path, "clip_seconds": 0.4, "seed": 3, **more})


def number(item) -> int:
    return int(item["target"][0]) - 1


def test_mixture_target_and_face_are_cut_at_the_same_multiple_of_640_samples(pairs) -> None:
    starts = set()
    for epoch in range(30):
        for index in range(4):
            item = data(pairs)[epoch, index]
            assert item["mixture"].shape == (2, 6400) and item["target"].shape == (6400,)
            assert item["visual"].shape == (10, 4) and item["voiceprint"].shape == (6,)
            length, which = int(item["length"]), number(item)
            assert length == min(6400, (16000, 11360, 3200, 7200)[which]) and bool(item["sounding"])
            start = round((float(item["target"][0]) - which - 1) * 2**17)
            assert start % 640 == 0 and int(item["visual"][0, 0]) == start // 640 + 1
            assert torch.equal(item["mixture"][0], item["target"]) and not item["target"][length:].any()
            assert torch.equal(item["mixture"][1] * 2, item["mixture"][0])
            frames = -(-length // 640)
            assert torch.equal(item["visual"][:frames, 0], torch.arange(frames) + start // 640 + 1.0)
            assert not item["visual"][frames:].any() and torch.equal(item["voiceprint"], torch.arange(6.0) + which)
            starts.add((which, start // 640))
    assert {start for which, start in starts if which == 0} == set(range(16))  # 25 frames, clips of 10
    assert {start for which, start in starts if which == 1} == set(range(8))
    assert {start for which, start in starts if which == 2} == {0}


def test_each_row_once_in_an_epoch_in_an_order_of_its_own_and_further_items_begin_anew(pairs) -> None:
    more = data(pairs, epoch_num=10)
    assert len(more) == 10 and len(data(pairs)) == 4
    orders = [[number(more[epoch, index]) for index in range(10)] for epoch in range(6)]
    for order in orders:
        assert sorted(order[:4]) == sorted(order[4:8]) == [0, 1, 2, 3] and len(set(order[8:])) == 2
    assert len({tuple(order[:4]) for order in orders}) > 1 and any(order[:4] != order[4:8] for order in orders)
    assert [[number(data(pairs)[epoch, index]) for index in range(4)] for epoch in range(6)] == [o[:4] for o in orders]
    names = [more.name((1, index)) for index in range(10)]
    assert names == [f"item{which}.wav" for which in orders[1]]
    assert [number(data(pairs, epoch_num=2)[0, i]) for i in range(2)] == orders[0][:2]


def test_an_item_follows_from_seed_epoch_and_index_alone(pairs) -> None:
    settings = dict(epoch_num=8, cue_dropout=0.5, quieter_db=20)

    def epoch(**more) -> list[dict]:
        batches = TrainBatches(dataset=data(pairs, **settings), batch_size=4, num_workers=more.pop("workers", 0))
        return list(batches.epoch(2, **more))

    whole = epoch()
    for other in (epoch(workers=2), [*epoch(world_size=2, rank=0)]):
        for batch, same in zip(whole, other, strict=True):
            assert all(torch.equal(batch[key][: len(same[key])], same[key]) for key in batch)
    second = epoch(first_step=1)
    assert len(second) == 1 and all(torch.equal(whole[1][key], second[0][key]) for key in whole[1])
    assert not torch.equal(data(pairs, seed=4)[0, 0]["mixture"], data(pairs)[0, 0]["mixture"])


def test_cues_drop_out_each_by_itself_and_nothing_else_changes(pairs) -> None:
    plain, some = data(pairs, epoch_num=400), data(pairs, epoch_num=400, cue_dropout=0.25)
    dropped = {"voiceprint": 0, "visual": 0, "both": 0}
    for index in range(400):
        full, item = plain[0, index], some[0, index]
        gone = {cue for cue in ("voiceprint", "visual") if not item[cue].any()}
        for key in full.keys() - gone:
            assert torch.equal(full[key], item[key])
        for cue in gone:
            dropped[cue] += 1
        dropped["both"] += len(gone) == 2
    assert 70 < dropped["voiceprint"] < 130 and 70 < dropped["visual"] < 130 and 10 < dropped["both"] < 45
    assert all(data(pairs, cue_dropout=1.0)[i]["visual"].any() for i in range(4))  # never in validation


def test_a_quieter_item_is_quieter_in_mixture_and_target_alike(pairs) -> None:
    plain, quiet = data(pairs), data(pairs, quieter_db=30)
    gains = []
    for epoch in range(20):
        full, item = plain[epoch, 0], quiet[epoch, 0]
        gains.append(20 * np.log10(float(item["target"][0] / full["target"][0])))
        for key in ("mixture", "target"):
            assert torch.allclose(item[key], full[key] * 10 ** (gains[-1] / 20), rtol=1e-5)
        assert torch.equal(full["visual"], item["visual"])
    assert -30 <= min(gains) < -20 and -10 < max(gains) <= 0
    assert torch.equal(quiet[0]["mixture"], plain[0]["mixture"])


def test_whole_files_are_padded_in_a_batch_and_their_lengths_told(pairs) -> None:
    whole = data(pairs, clip_seconds=None)
    assert [int(whole[i]["length"]) for i in range(4)] == [16000, 11360, 3200, 7200]
    (batch,) = EvalBatches(dataset=whole, batch_size=4).batches()
    assert batch["mixture"].shape == (4, 2, 16000) and batch["visual"].shape == (4, 25, 4)
    for row in range(4):
        item, length = whole[row], int(batch["length"][row])
        frames = -(-length // 640)
        assert torch.equal(batch["mixture"][row, :, :length], item["mixture"]) and item["visual"].shape[0] == frames
        assert torch.equal(batch["visual"][row, :frames], item["visual"])
        assert not batch["mixture"][row, :, length:].any() and not batch["visual"][row, frames:].any()


def test_a_missing_face_is_zeros_and_cues_that_are_not_in_use_are_not_there(pairs, tmp_path) -> None:
    released = CuedMixtures(lists=CueLists(voiceprint_path=PICKLE), path=LISTING, clip_seconds=0.3)
    assert [bool(released[index]["visual"].any()) for index in range(4)] == [True, True, False, True]
    assert released[2]["visual"].shape == (8, 256)
    for cues in (["voiceprint"], ["visual"]):
        item = data(pairs, lists=lists(cues=cues))[0, 0]
        assert item.keys() == {"mixture", "target", "length", "sounding", *cues}
    bare = write_pairs(tmp_path / "bare", [0.5], faces=False)
    assert not data(bare)[0]["visual"].any()


def test_one_microphone_is_the_first_and_another_number_is_named(pairs) -> None:
    item = data(pairs, channels=1)[0, 0]
    assert torch.equal(item["mixture"], item["target"][None])
    with pytest.raises(ValueError, match=r"m\d.wav has 2 channels, 3 are needed"):
        data(pairs, channels=3)[0, 0]


def test_a_silent_target_is_told(tmp_path) -> None:
    folder = write_pairs(tmp_path / "pairs", [0.5, 0.5])
    sf.write(folder / "s1.wav", np.zeros(8000), 16000)
    batch = CuedMixtures.collate([data(folder)[index] for index in range(2)])
    assert batch["sounding"].tolist() == [True, False] and batch["length"].tolist() == [6400, 6400]


def test_a_target_of_another_length_and_a_broken_file_are_named_and_replaced_in_training(tmp_path) -> None:
    folder = write_pairs(tmp_path / "pairs", [0.5, 0.5, 0.5])
    sf.write(folder / "s1.wav", np.ones(7999) / 2, 16000)
    with pytest.raises(ValueError, match=r"s1.wav has 7999 samples, its mixture .*m1.wav has 8000"):
        data(folder)[1]
    np.save(folder / "f2.npy", np.ones((40, 4)))
    with pytest.raises(ValueError, match=r"f2.npy has 40 frames, .* are 13"):
        data(folder)[2]
    (batch,) = TrainBatches(dataset=data(folder), batch_size=3, max_bad_share=1.0).epoch(0)
    assert [number({"target": target}) for target in batch["target"]] == [0, 0, 0]


class Encoder:
    """Counts what it is asked."""

    def __init__(self, size: int = 6):
        self.size, self.heard = size, 0

    def embed(self, wav: torch.Tensor) -> torch.Tensor:
        self.heard += 1
        return wav.abs().mean(dim=1, keepdim=True).expand(-1, self.size)


def test_voiceprints_of_audio_are_made_once_and_what_has_none_is_replaced(tmp_path) -> None:
    folder = write_pairs(tmp_path / "pairs", [0.5] * 4)
    for name, level in (("one", 0.25), ("other", 0.5)):
        sf.write(folder / f"{name}.wav", np.tile([level, -level], 4000), 16000)
    (folder / "broken.wav").write_bytes(b"not audio")
    files = ("one.wav", "other.wav", "one.wav", "broken.wav")
    (folder / "aux_s1.scp").write_text("".join(f"item{i}.wav {file}\n" for i, file in enumerate(files)))
    encoder = Encoder()
    made = data(folder, lists=lists(speaker_encoder="xvector"), speaker_encoder=encoder)
    for _ in range(2):
        assert [float(made[i]["voiceprint"][0]) for i in range(3)] == [0.25, 0.5, 0.25]
    assert encoder.heard == 2
    with pytest.raises(ValueError, match=r"broken\.wav"):
        made[3]
    with pytest.raises(ValueError, match=r"one\.wav has 5 numbers, voiceprint_dim is 6"):
        data(folder, lists=lists(speaker_encoder="xvector"), speaker_encoder=Encoder(5))[0]
    with pytest.raises(ValueError, match="there is no speaker_encoder"):
        data(folder, lists=lists(speaker_encoder="xvector"))


@pytest.mark.parametrize(
    "wrong", [{"clip_seconds": 0}, {"epoch_num": 0}, {"cue_dropout": 1.5}, {"quieter_db": -1}, {"cue_dropout": -0.1}]
)
def test_a_setting_out_of_its_range_is_named(pairs, wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        data(pairs, **wrong)
