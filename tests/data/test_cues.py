"""Both forms of lists say the same of the same mixtures, and what is wrong with them is named."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
import soundfile as sf

from data import audio
from data.cues import CueLists
from data.published_lists import is_published, read_published
from tests.limuse_data import LIMUSE, LISTING, PICKLE, write_pairs

NAMES = [line.split()[0].rpartition("/")[2] for line in LISTING.read_text().splitlines()]


def released(**more: object) -> CueLists:
    return CueLists(**{"voiceprint_path": PICKLE, **more})


def test_both_forms_of_lists_name_the_same_mixtures_voiceprints_and_faces(caplog) -> None:
    ours, theirs = CueLists(), released()
    with caplog.at_level(logging.INFO):
        (one, problems), (other, more) = ours.entries(LIMUSE / "test"), theirs.entries(LISTING)
    assert not problems and not more and list(other) == NAMES
    for row, same in zip(one.values(), other.values(), strict=True):
        samples = audio.num_samples(row["mixture"])
        assert samples == audio.num_samples(same["mixture"]) and ("visual" in row) == ("visual" in same)
        assert np.array_equal(ours.voiceprint(row["enrolment"]), theirs.voiceprint(same["enrolment"]))
        if "visual" in row:
            face = ours.face(row["visual"], samples)
            assert np.array_equal(face, theirs.face(same["visual"], samples)) and len(face) == -(-samples // 640)
    assert caplog.text.count("1 of 4 rows have no face: zeros in its place") == 2 and "utt2.wav" in caplog.text


def test_a_list_may_lie_elsewhere_than_its_data_and_its_voiceprints_in_files(tmp_path) -> None:
    moved, store = shutil.copy(LISTING, tmp_path / "list.txt"), tmp_path / "vp"
    store.mkdir()
    theirs = released()
    rows, _ = theirs.entries(LISTING)
    for line, row in zip(read_published(LISTING), rows.values(), strict=True):
        np.save(store / f"{line.enrolment_key}.npy", theirs.voiceprint(row["enrolment"]))
    lists = released(voiceprint_path=store, data_root=LIMUSE / "released")
    for row, same in zip(lists.entries(moved)[0].values(), rows.values(), strict=True):
        assert np.array_equal(lists.voiceprint(row["enrolment"]), theirs.voiceprint(same["enrolment"]))
        assert row["mixture"] == same["mixture"]
    with pytest.raises(FileNotFoundError, match=r"nowhere \(data_root\)"):
        released(data_root=tmp_path / "nowhere").entries(moved)


def test_the_voiceprint_is_the_enrolments_or_by_name_the_targets() -> None:
    line = read_published(LISTING)[0]
    assert (line.enrolment_key, line.target_key) == ("s1_pgwh7s.wav", "s1_bbaf2n.wav")
    for of, key in (("enrolment", line.enrolment_key), ("target", line.target_key)):
        assert released(voiceprint_of=of).entries(LISTING)[0][line.name]["enrolment"] == f"{PICKLE}[{key}]"
        row = CueLists(speaker_encoder="ecapa", voiceprint_of=of).training_rows(LISTING)[0][1]
        assert row["enrolment"] == (line.enrolment if of == "enrolment" else line.target)


def test_only_what_the_cues_need_is_read(tmp_path) -> None:
    rows = CueLists(cues=["visual"]).entries(LISTING)[0]  # no voiceprints are asked for
    assert set(rows[NAMES[0]]) == {"mixture", "visual"}
    folder = write_pairs(tmp_path / "pairs", [0.1, 0.1])
    (folder / "visual_s1.scp").write_text("not a list")
    assert set(CueLists(cues=["voiceprint"]).entries(folder)[0]["item0.wav"]) == {"mixture", "enrolment"}
    (folder / "visual_s1.scp").unlink()
    (folder / "aux_s1.scp").unlink()
    assert set(CueLists(cues=["visual"]).training_rows(folder)[0][1]) == {"mixture", "target"}


def test_a_line_of_another_number_of_fields_is_named(tmp_path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\n" + LISTING.read_text().replace(" m f", " m", 1))
    with pytest.raises(ValueError, match=r"list.txt, line 2: 9 fields, 10 are needed"):
        released().entries(path)
    path.write_text(LISTING.read_text().splitlines()[0] + "\n" + LISTING.read_text())
    with pytest.raises(ValueError, match=r"list.txt, line 2: 0_RIR0.* more than once"):
        released().entries(path)
    path.write_text("# nothing\n")
    with pytest.raises(ValueError, match="the list is empty"):
        released().entries(path)
    with pytest.raises(FileNotFoundError, match="nowhere.txt"):
        released().entries(tmp_path / "nowhere.txt")


def test_a_list_of_targets_is_no_ten_field_list(tmp_path) -> None:
    (tmp_path / "s1.scp").write_text("a one two three four five six seven eight nine.wav\nb c.wav\n")
    assert is_published(LISTING) and not is_published(tmp_path / "s1.scp")


def test_a_missing_voiceprint_is_a_problem_of_its_row_and_a_missing_path_of_all(tmp_path) -> None:
    np.save(tmp_path / "s1_pgwh7s.npy", np.zeros(512))
    rows, problems = released(voiceprint_path=tmp_path).entries(LISTING)
    assert list(rows) == NAMES[:1] and problems.keys() == set(NAMES[1:])
    assert all(f"{tmp_path} has no voiceprint of s" in problem for problem in problems.values())
    with pytest.raises(ValueError, match="set voiceprint_path"):
        CueLists().entries(LISTING)
    with pytest.raises(ValueError, match="has no voiceprint"):
        released(voiceprint_path=tmp_path).training_rows(LISTING)


def test_a_target_of_another_name_has_no_voiceprint_of_the_target(tmp_path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(LISTING.read_text().replace("0_RIR0_s1_bbaf2n_target.wav", "target0.wav"))
    problems = released(voiceprint_of="target", data_root=LIMUSE / "released").entries(path)[1]
    assert list(problems) == NAMES[:1] and "target0.wav is not named" in problems[NAMES[0]]


def test_audio_where_voiceprints_are_needed_is_a_problem_that_names_the_key() -> None:
    rows, problems = CueLists().entries(LIMUSE / "test_audio")
    assert not rows and len(problems) == 4
    assert all(".wav is audio, and with speaker_encoder=files" in problem for problem in problems.values())
    lists = CueLists(speaker_encoder="xvector")
    rows, problems = lists.entries(LIMUSE / "test_audio")
    assert len(rows) == 4 and not problems and not lists.is_voiceprint(rows["utt0.wav"]["enrolment"])


def test_rows_whose_enrolment_is_the_target_are_left_out_of_training_and_warned_of(tmp_path, caplog) -> None:
    path = tmp_path / "list.txt"
    path.write_text(LISTING.read_text().replace("ref/test/s1/pgwh7s.wav", "ref/test/s1/bbaf2n.wav"))
    lists = released(data_root=LIMUSE / "released")
    assert [name for name, _ in lists.training_rows(path)] == NAMES[1:]
    assert f"1 of 4 rows left out: their enrolment is the target itself ({NAMES[0]})" in caplog.text
    caplog.clear()
    assert list(lists.entries(path)[0]) == NAMES
    assert f"the enrolment of {NAMES[0]} is the target itself" in caplog.text
    oracle = released(data_root=LIMUSE / "released", voiceprint_of="target")
    assert len(oracle.training_rows(path)) == 4  # which is what the oracle asks for
    folder = write_pairs(tmp_path / "pairs", [0.1, 0.1])
    sf.write(folder / "e1.wav", np.ones(1600), 16000)
    (folder / "aux_s1.scp").write_text("item0.wav ../pairs/s0.wav\nitem1.wav e1.wav\n")
    assert [name for name, _ in CueLists(speaker_encoder="ecapa").training_rows(folder)] == ["item1.wav"]
    caplog.clear()
    assert len(CueLists(speaker_encoder="ecapa").entries(folder)[0]) == 2
    assert "the enrolment of item0.wav is the target itself" in caplog.text
    (folder / "aux_s1.scp").write_text("item0.wav s0.wav\nitem1.wav s1.wav\n")
    with pytest.raises(ValueError, match="in no row is the enrolment another utterance"):
        CueLists(speaker_encoder="ecapa").training_rows(folder)


def test_lists_that_do_not_fit_are_named(tmp_path) -> None:
    folder = write_pairs(tmp_path / "pairs", [0.1, 0.1])
    (folder / "aux_s1.scp").write_text("item0.wav v0.npy\nghost.wav v1.npy\n")
    with pytest.raises(ValueError, match=r"aux_s1.scp: item1.wav missing(.|\n)*ghost.wav not in"):
        CueLists().entries(folder)
    (folder / "aux_s1.scp").write_text("item0.wav v0.npy\nitem1.wav v1.npy\n")
    (folder / "visual_s1.scp").write_text("ghost.wav f0.npy\n")
    with pytest.raises(ValueError, match=r"visual_s1.scp: ghost.wav not in"):
        CueLists().entries(folder)
    (folder / "visual_s1.scp").write_text("item1.wav cat f0.npy |\n")
    rows, problems = CueLists().entries(folder)
    assert list(rows) == ["item0.wav"] and "commands in lists are not run" in problems["item1.wav"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"cues": []}, "cues"), ({"cues": ["voiceprint", "smell"]}, "smell"), ({"voiceprint_of": "me"}, "voiceprint_of")],
)
def test_a_value_that_is_none_is_refused_by_its_key(wrong, said) -> None:
    with pytest.raises(ValueError, match=said):
        CueLists(**wrong)


def test_enrolment_audio_is_its_first_channel_up_to_30_seconds(tmp_path) -> None:
    wav = np.random.default_rng(0).uniform(-0.5, 0.5, (16000 * 31, 2))
    sf.write(tmp_path / "long.wav", wav, 16000, subtype="FLOAT")
    assert np.array_equal(CueLists().enrolment(str(tmp_path / "long.wav")), wav[: 16000 * 30, 0].astype(np.float32))
    sf.write(tmp_path / "silent.wav", 0 * wav, 16000)
    with pytest.raises(ValueError, match=r"silent.wav is silent"):
        CueLists().enrolment(str(tmp_path / "silent.wav"))
