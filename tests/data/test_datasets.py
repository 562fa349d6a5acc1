"""On-the-fly mixtures and fixed lists: every item a pure function."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile as sf
import torch

from data import audio
from data.extraction import FixedMixtures, OnTheFlyMixtures
from tests.toy import write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def on_the_fly(corpus, **more) -> OnTheFlyMixtures:
    settings = dict(epoch_num=20, mix_length=8000, regi_length=12000, seed=3)
    return OnTheFlyMixtures(speakers=corpus["tr_data_scp_path"], **{**settings, **more})


def fixed(corpus, **more) -> FixedMixtures:
    lists = dict(mix_path=corpus["cv_mix_path"], clean_path=corpus["cv_clean_path"], ref_path=corpus["cv_ref_path"])
    return FixedMixtures(**lists, **{**dict(mix_length=8000, regi_length=12000, seed=3), **more})


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("mixing", ["published", "symmetric"])
def test_an_item_is_a_function_of_seed_epoch_and_index(corpus, mixing: str) -> None:
    data = on_the_fly(corpus, mixing=mixing)
    items = {key: data[key] for key in ((0, 0), (0, 1), (1, 0))}
    np.random.seed(99), torch.manual_seed(99)
    for key in reversed(items):
        assert same(on_the_fly(corpus, mixing=mixing)[key], items[key])
    assert not same(items[0, 0], items[0, 1]) and not same(items[0, 0], items[1, 0])
    assert not same(on_the_fly(corpus, mixing=mixing, seed=4)[0, 0], items[0, 0])


def test_shapes_scale_and_type(corpus) -> None:
    item = on_the_fly(corpus)[5, 7]
    assert {name: tuple(x.shape) for name, x in item.items()} == {
        "mixture": (8000,),
        "target": (8000,),
        "enrolment": (12000,),
    }
    assert all(x.dtype == torch.float32 for x in item.values())
    assert max(float(x.abs().max()) for x in item.values()) == pytest.approx(1.0)


def test_two_talkers_and_the_enrolment_is_another_utterance(corpus, monkeypatch) -> None:
    read: list[str] = []
    original = audio.read_crop

    def spy(path, **more):
        read.append(path.stem)
        return original(path, **more)

    monkeypatch.setattr(audio, "read_crop", spy)
    data = on_the_fly(corpus, epoch_num=300)
    seen = set()
    for i in range(300):
        read.clear()
        data[0, i]
        target, interferer, enrolment = read  # "speaker-utterance"
        assert target[0] == enrolment[0] != interferer[0] and target != enrolment
        seen.add((target, interferer, enrolment))
    assert len({t for t, _, _ in seen}) == len({i for _, i, _ in seen}) == 9  # all utterances, in both roles


def test_a_speakers_only_pair(tmp_path) -> None:
    index = {s: [f"{s}{n}.wav" for n in range(2)] for s in "ab"}
    for name in (name for names in index.values() for name in names):
        sf.write(tmp_path / name, np.random.default_rng(0).standard_normal(500) / 9, 16000)
    (tmp_path / "train.json").write_text(json.dumps(index))
    data = OnTheFlyMixtures(speakers=tmp_path / "train.json", epoch_num=9, mix_length=400, regi_length=400)
    assert len({data[0, i]["mixture"].numpy().tobytes() for i in range(9)}) > 1


def test_short_files_and_silence(tmp_path) -> None:
    index = {}
    for speaker, wav in (("short", np.full(100, 0.5)), ("silent", np.zeros(300))):
        for number in range(2):
            sf.write(tmp_path / f"{speaker}{number}.wav", wav, 16000)
            index.setdefault(speaker, []).append(f"{speaker}{number}.wav")
    (tmp_path / "train.json").write_text(json.dumps(index))
    for mixing in ("published", "symmetric"):
        data = OnTheFlyMixtures(
            speakers=tmp_path / "train.json", epoch_num=20, mix_length=800, regi_length=900, mixing=mixing
        )
        for i in range(20):
            item = data[0, i]
            assert all(bool(x.isfinite().all()) for x in item.values())
            assert not item["mixture"][300:].any()


def test_fixed_lists_are_cut_at_one_place_and_always_the_same(corpus) -> None:
    data = fixed(corpus)
    assert len(data) == 3
    for i in range(3):
        assert same(data[i], fixed(corpus)[i])
        mixture, target = (sf.read(data.entries[i][1][role], dtype="float32")[0] for role in ("mixture", "target"))
        windows = np.lib.stride_tricks.sliding_window_view(mixture, 8000)
        (start,) = np.flatnonzero((windows == data[i]["mixture"].numpy()).all(axis=1))
        assert np.array_equal(target[start : start + 8000], data[i]["target"].numpy())
    assert not same(data[0], fixed(corpus, seed=4)[0])


def test_files_shorter_than_the_cut_are_padded(corpus) -> None:
    item = fixed(corpus, mix_length=70000, regi_length=90000)[0]
    assert item["mixture"].shape == item["target"].shape == (70000,) and item["enrolment"].shape == (90000,)
    assert not item["mixture"][52000:].any()


def test_settings_that_cannot_work_are_refused(corpus) -> None:
    with pytest.raises(ValueError, match="got 'loud'"):
        on_the_fly(corpus, mixing="loud")
    with pytest.raises(ValueError, match="got -1"):
        on_the_fly(corpus, mix_range_db=-1)
    with pytest.raises(ValueError, match="got 0 and 12000"):
        fixed(corpus, mix_length=0)


# -- absent talkers ----------------------------------------------------------------------------------------------------


def talkers_read(monkeypatch) -> list[str]:
    """The files that items are made of, as they are read: ``talker-utterance``."""
    read: list[str] = []
    original = audio.read_crop
    monkeypatch.setattr(audio, "read_crop", lambda path, **more: (read.append(path.stem), original(path, **more))[1])
    return read


@pytest.mark.parametrize("mixing", ["published", "symmetric"])
def test_absent_talkers_are_those_of_no_mixture_and_as_many_as_asked_for(corpus, monkeypatch, mixing: str) -> None:
    read = talkers_read(monkeypatch)
    data = on_the_fly(corpus, epoch_num=400, absent_share=0.3, mixing=mixing)
    plain = on_the_fly(corpus, epoch_num=400, mixing=mixing)
    absent = 0
    for i in range(400):
        read.clear()
        item = data[2, i]
        target, interferer, enrolment = (name[0] for name in read)
        is_absent = enrolment not in (target, interferer)
        assert bool(item["present"]) != is_absent and (is_absent or enrolment == target)
        if is_absent:
            assert not item["target"].any() and item["mixture"].any() and item["enrolment"].any()
            # The mixture is the one of the same item without absent talkers, but for the common scale.
            ours, theirs = (wav / wav.abs().max() for wav in (item["mixture"], plain[2, i]["mixture"]))
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        else:
            assert same({k: v for k, v in item.items() if k != "present"}, plain[2, i])
        absent += is_absent
    assert 0.3 * 400 - 4 * 9.2 < absent < 0.3 * 400 + 4 * 9.2  # four standard deviations
    assert same(data[2, 7], on_the_fly(corpus, epoch_num=400, absent_share=0.3, mixing=mixing)[2, 7])


def test_without_a_share_there_is_no_word_of_it(corpus) -> None:
    assert on_the_fly(corpus, absent_share=0.0)[0, 3].keys() == {"mixture", "target", "enrolment"}
    assert fixed(corpus)[0].keys() == {"mixture", "target", "enrolment", "key"}


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_shares_that_cannot_be_are_refused(corpus, share: float) -> None:
    with pytest.raises(ValueError, match=r"absent_share must be in \[0, 1\)"):
        on_the_fly(corpus, absent_share=share)


def test_an_absent_talker_is_a_third_one(tmp_path) -> None:
    index = {s: [f"{s}{n}.wav" for n in range(2)] for s in "ab"}
    for name in (name for names in index.values() for name in names):
        sf.write(tmp_path / name, np.full(500, 0.1), 16000)
    (tmp_path / "train.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"third talker, and .*train.json has 2"):
        on_the_fly({"tr_data_scp_path": tmp_path / "train.json"}, absent_share=0.1)


def test_fixed_mixtures_come_a_second_time_with_absent_talkers(corpus, tmp_path) -> None:
    enrolments = tmp_path / "absent.scp"
    train = corpus["tr_data_scp_path"].parent / "train"
    enrolments.write_text("".join(f"item{n}.wav {train / f'2-{n}.wav'}\n" for n in range(3)))
    plain, data = fixed(corpus), fixed(corpus, absent_path=enrolments)
    assert len(data) == 6
    for i in range(3):
        present, absent = data[i], data[3 + i]
        assert same({k: v for k, v in present.items() if k != "present"}, plain[i]) and bool(present["present"])
        assert torch.equal(absent["mixture"], plain[i]["mixture"]) and not bool(absent["present"])
        assert not absent["target"].any() and absent["key"] != present["key"]
        whole = sf.read(train / f"2-{i}.wav", dtype="float32")[0]
        windows = np.lib.stride_tricks.sliding_window_view(whole, 12000)
        assert (windows == absent["enrolment"].numpy()).all(axis=1).sum() == 1
    with pytest.raises(IndexError):
        data[6]
    enrolments.write_text(f"item0.wav {train / '2-0.wav'}\n")
    with pytest.raises(ValueError, match="item1.wav"):
        fixed(corpus, absent_path=enrolments)
