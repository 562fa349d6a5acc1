"""Whose voice each file is to give: from lists, indices and names, and what is said where none of them tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.speakers import write_speakers
from evaluation.items import Item
from evaluation.talkers import read_talkers, talkers_of_names, talkers_of_rows

NAMES = ("7-1-0001_9-1-0002.wav", "9-1-0003_7-1-0004.wav")


def items_of(folder: Path, names: tuple[str, ...] = NAMES, role: str = "s1") -> list[Item]:
    return [Item(name, Path("out", name), {"target": folder / role / name}) for name in names]


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "data/test").mkdir(parents=True)
    return tmp_path / "data/test"


def index(lists: Path, talkers: dict[str, str]) -> None:
    """A speaker index beside the lists, as data.prepare.synthetic leaves it: talker of each target -> its files."""
    found: dict[str, list[Path]] = {}
    for name, talker in talkers.items():
        found.setdefault(talker, []).extend([lists / "s1" / name, lists / "aux_s1" / name])
    write_speakers(lists.with_name("test.json"), found)


def test_a_list_beside_the_others_goes_before_all_else(lists: Path) -> None:
    index(lists, dict.fromkeys(NAMES, "of the index"))
    (lists / "utt2spk").write_text(f"{NAMES[0]} anna\n{NAMES[1]} bo\nanother cy\n")
    assert read_talkers("talker", items_of(lists), lists) == {NAMES[0]: "anna", NAMES[1]: "bo"}
    assert talkers_of_names(str(lists / "utt2spk"), NAMES) == {NAMES[0]: "anna", NAMES[1]: "bo"}


def test_a_speaker_index_tells_the_talker_of_the_targets_file(lists: Path, tmp_path: Path) -> None:
    """Also where other lists, of swapped talkers say, lead to the same files."""
    names = ("one.wav", "two.wav")
    index(lists, {"one.wav": "anna", "two.wav": "bo"})
    (tmp_path / "elsewhere").symlink_to(lists.parent)
    (tmp_path / "swapped").mkdir()
    for targets in (lists, tmp_path / "elsewhere/test"):
        for where in (lists, tmp_path / "swapped"):
            found = read_talkers("talker", items_of(targets, names), where)
            assert found == {"one.wav": "anna", "two.wav": "bo"}
    list_alone = tmp_path / "data/test.scp"  # with test.json beside it
    assert read_talkers("talker", items_of(lists, names), list_alone) == {"one.wav": "anna", "two.wav": "bo"}


def test_the_talkers_of_the_synthetic_corpus_are_those_of_its_plan(tmp_path: Path) -> None:
    from data.prepare.utterances import plan_mixtures, speakers_of
    from data.prepare.voices import draw_voices

    plan = plan_mixtures("test", draw_voices("test", 5, seed=0), 12, seed=0)
    folder = tmp_path / "test"
    folder.mkdir()
    write_speakers(tmp_path / "test.json", speakers_of(folder, plan))
    names = tuple(mixture.name for mixture in plan)
    assert read_talkers("talker", items_of(folder, names), folder) == {m.name: m.target for m in plan}
    swapped = read_talkers("talker", items_of(folder, names, role="s2"), folder)
    assert swapped == {m.name: m.interferer for m in plan}


def test_names_of_librispeech_and_libri2mix_tell(lists: Path, tmp_path: Path) -> None:
    assert read_talkers("talker", items_of(lists), lists) == {NAMES[0]: "7", NAMES[1]: "9"}
    assert read_talkers("talker", items_of(lists, role="s2"), lists) == {NAMES[0]: "9", NAMES[1]: "7"}
    tree = {f"{who}-3-0001": tmp_path / f"train/{who}/3/{who}-3-0001.flac" for who in ("84", "251")}
    items = [Item(name, Path("out"), {"target": path}) for name, path in tree.items()]
    assert read_talkers("talker", items, tmp_path / "list.scp") == {"84-3-0001": "84", "251-3-0001": "251"}
    with pytest.raises(ValueError, match="2 of 2 files are not known"):  # elsewhere the name may mean something else
        read_talkers("talker", items_of(lists, role="clean"), lists)


def test_a_pattern_finds_the_talker_in_names() -> None:
    assert talkers_of_names(r"(\d+)-", NAMES) == {NAMES[0]: "7", NAMES[1]: "9"}
    assert talkers_of_names(r"_(\d+)-", NAMES) == {NAMES[0]: "9", NAMES[1]: "7"}


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("talker", "2 of 2 files are not known .one.wav, two.wav.: it takes a list utt2spk .*LISTS.json.* a pattern"),
        ("(one)", "1 of 2 files are not known .two.wav.: the pattern finds none"),
        (r"(\w+)\.(wav)", "a pattern needs one group.* it has 2"),
        ("nowhere.txt", "no such file, and a pattern needs one group.* it has 0"),
        ("(", "no such file, and no regular expression"),
        (r"\.(wav)", "all files are of one talker, wav"),
        ("(x?)", "2 of 2 files are not known"),
    ],
)
def test_where_talkers_are_not_known_the_error_says_what_to_give(lists: Path, how: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_talkers(how, items_of(lists, ("one.wav", "two.wav")), lists)


def test_a_list_without_a_name_and_a_file_that_is_no_index_are_named(lists: Path) -> None:
    lists.with_name("test.json").write_text(json.dumps(["something", "else"]))
    with pytest.raises(ValueError, match="test.json is not a speaker index.* a pattern"):
        read_talkers("talker", items_of(lists), lists)
    (lists / "utt2spk").write_text(f"{NAMES[0]} anna\n")
    with pytest.raises(ValueError, match="1 of 2 files are not known .9-1-0003_7-1-0004.wav."):
        read_talkers("talker", items_of(lists), lists)


def test_a_comparison_takes_the_talkers_that_the_folders_were_evaluated_with() -> None:
    a, b = ({name: {"talker": who} for name, who in zip("xy", whose, strict=True)} for whose in ("12", "13"))
    assert talkers_of_rows("talker", {"a": a, "again": a}) == {"x": "1", "y": "2"}
    with pytest.raises(ValueError, match="of y, b tells another talker"):
        talkers_of_rows("talker", {"a": a, "b": b})
    with pytest.raises(ValueError, match="plain tells no talkers .x, y.*Evaluate it with --cluster"):
        talkers_of_rows("talker", {"a": a, "plain": {"x": {}, "y": {}}})
    assert talkers_of_rows("(.)", {"plain": {"x": {}, "y": {}}}) == {"x": "x", "y": "y"}
