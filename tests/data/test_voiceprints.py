"""Voiceprints in files and in pickled dicts, of which nothing is run."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from data.voiceprints import VoiceprintStore, read_voiceprint
from tests.toy import REFERENCE
from utils.safe_load import UnsafeFile

RELEASED = REFERENCE / "limuse/released"
DICT = {f"s{i}_a.wav": np.random.default_rng(i).standard_normal((1, 6)).astype(np.float32) for i in range(3)}


@pytest.mark.parametrize("name", ["grid_vp.pkl", "grid_vp_protocol5.pkl"])
def test_the_published_pickle_is_read_of_old_and_new_numpy(name: str) -> None:
    direct = pickle.loads((RELEASED / name).read_bytes())  # our own fixture
    store = VoiceprintStore(RELEASED / name)
    assert len(direct) == 8
    for key, value in direct.items():
        reference = store.reference(key)
        assert store.holds(reference) and np.array_equal(store.read(reference, 512), value.reshape(-1))
        assert store.read(reference, 512).dtype == np.float32
    assert store.reference("s9_nobody.wav") is None


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_and_kind_of_float(protocol: int, tmp_path) -> None:
    kinds = {"a": np.float16([1, 2]), "b": np.float64([[3, 4]]), "c": np.array([5, 6], ">f4")}
    (tmp_path / "vp.pkl").write_bytes(pickle.dumps(kinds, protocol=protocol))
    store = VoiceprintStore(tmp_path / "vp.pkl")
    assert [store.read(store.reference(key), 2).tolist() for key in "abc"] == [[1, 2], [3, 4], [5, 6]]


def test_a_folder_holds_one_in_a_file_under_the_key_with_or_without_its_wav(tmp_path) -> None:
    np.save(tmp_path / "s1_a.wav.npy", DICT["s0_a.wav"])
    np.save(tmp_path / "s2_b.npy", DICT["s1_a.wav"][0])
    store = VoiceprintStore(tmp_path)
    for key, value in (("s1_a.wav", DICT["s0_a.wav"]), ("s2_b.wav", DICT["s1_a.wav"])):
        assert np.array_equal(store.read(store.reference(key), 6), value[0])
    assert store.reference("s3_c.wav") is None and not store.holds(str(tmp_path / "s2_b.npy"))


class Payload:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize(
    "content",
    [
        {"a": [1.0, 2.0]}, {"a": np.array([1, 2])}, {1: DICT["s0_a.wav"]}, [DICT["s0_a.wav"]], DICT["s0_a.wav"],
        {"a": np.array([None])}, {"a": {"b": DICT["s0_a.wav"]}}, {"a": np.array(["x"])}, {"a": np.complex64([1])},
        {"a": np.float32(1.0)}, {"a": None},
    ],
    ids=str,
)  # fmt: skip
def test_anything_but_texts_and_float_arrays_is_refused(content, tmp_path) -> None:
    (tmp_path / "vp.pkl").write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(ValueError, match=r"vp\.pkl"):
        VoiceprintStore(tmp_path / "vp.pkl")


def test_code_in_a_pickle_is_not_run_and_broken_ones_are_named(tmp_path) -> None:
    path = tmp_path / "vp.pkl"
    path.write_bytes(pickle.dumps({"a": Payload(tmp_path / "ran")}))
    with pytest.raises(UnsafeFile, match=r"vp\.pkl asks for posix\.mkdir"):
        VoiceprintStore(path)
    assert not (tmp_path / "ran").exists()
    for content in (b"", b"no pickle", (RELEASED / "grid_vp.pkl").read_bytes()[:-200]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"vp\.pkl cannot be read as a pickled dict of voiceprints"):
            VoiceprintStore(path)
    with pytest.raises(FileNotFoundError, match="nowhere.pkl .*voiceprint_path"):
        VoiceprintStore(tmp_path / "nowhere.pkl")


def test_an_array_that_claims_more_than_the_file_holds_is_refused(tmp_path) -> None:
    claim = (
        b"\x80\x03}cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01J\xff\xff\xff\x7f\x85"
        b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89C\x04aaaatbX\x01\x00\x00\x00as."
    )
    (tmp_path / "bomb.pkl").write_bytes(claim)
    with pytest.raises(ValueError, match=r"bomb\.pkl .*larger than the file"):
        VoiceprintStore(tmp_path / "bomb.pkl")


def test_a_voiceprint_of_another_size_or_shape_is_named_with_both_numbers(tmp_path) -> None:
    (tmp_path / "vp.pkl").write_bytes(pickle.dumps(DICT, protocol=4))
    store = VoiceprintStore(tmp_path / "vp.pkl")
    with pytest.raises(ValueError, match=r"vp.pkl\[s0_a.wav\] has 6 numbers, voiceprint_dim is 512"):
        store.read(store.reference("s0_a.wav"), 512)
    with pytest.raises(ValueError, match="has no voiceprint of ghost"):
        store.read(f"{tmp_path}/vp.pkl[ghost]", 6)
    for name, values, said in (
        ("nan", np.full(6, np.nan), "not finite"),
        ("two", np.zeros((2, 3)), r"no voiceprint: \[D\] or \[1, D\]"),
        ("int", np.zeros(6, np.int64), "no voiceprint"),
        ("long", np.zeros(7), "has 7 numbers, voiceprint_dim is 6"),
    ):
        np.save(tmp_path / f"{name}.npy", values)
        with pytest.raises(ValueError, match=f"{name}.npy .*{said}"):
            read_voiceprint(tmp_path / f"{name}.npy", 6)
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="object.npy"):
        read_voiceprint(tmp_path / "object.npy", 6)
    shutil.rmtree(tmp_path)
