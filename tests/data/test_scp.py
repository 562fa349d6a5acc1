from __future__ import annotations

import pytest

from data.scp import read_aligned, read_scp, write_scp


def test_paths_are_relative_to_the_list_or_absolute_and_may_hold_spaces(tmp_path) -> None:
    (tmp_path / "a.scp").write_text("x.wav sub folder/x y.wav\n\ny.wav   /abs/y.wav\n")
    assert read_scp(tmp_path / "a.scp") == {"x.wav": tmp_path / "sub folder/x y.wav", "y.wav": tmp_path / "/abs/y.wav"}


def test_a_tab_separates_too(tmp_path) -> None:
    (tmp_path / "a.scp").write_text("x.wav\tsub folder/x.wav\n")
    assert read_scp(tmp_path / "a.scp") == {"x.wav": tmp_path / "sub folder/x.wav"}


def test_a_folder_reached_through_a_link_is_the_lists_own(tmp_path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for audio, folder in (("real", "link"), ("link", "real"), ("link", "link")):
        write_scp(tmp_path / folder / "a.scp", {"x.wav": tmp_path / audio / "x.wav"})
        assert (tmp_path / "real/a.scp").read_text() == "x.wav x.wav\n"


def test_lists_are_matched_by_name_not_by_position(tmp_path) -> None:
    (tmp_path / "mix.scp").write_text("a m/a\nb m/b\n")
    (tmp_path / "ref.scp").write_text("b r/b\na r/a\n")
    entries = read_aligned({"mixture": tmp_path / "mix.scp", "enrolment": tmp_path / "ref.scp"})
    assert [name for name, _ in entries] == ["a", "b"]
    assert entries[0][1] == {"mixture": tmp_path / "m/a", "enrolment": tmp_path / "r/a"}


def test_one_error_shows_the_first_few_of_each_kind(tmp_path) -> None:
    (tmp_path / "mix.scp").write_text("".join(f"m{i} m/{i}\n" for i in range(9)) + "twice m/t\ntwice m/t\n")
    (tmp_path / "ref.scp").write_text("ghost r/g\nlonely\n")
    with pytest.raises(ValueError) as error:
        read_aligned({"mixture": tmp_path / "mix.scp", "enrolment": tmp_path / "ref.scp"})
    text = str(error.value)
    assert "twice more than once" in text and "ghost not in" in text and "line 2 ('lonely')" in text
    assert "m0, m1, m2, m3, m4 and 5 more missing" in text


def test_missing_and_empty_lists(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="none.scp"):
        read_scp(tmp_path / "none.scp")
    (tmp_path / "empty.scp").write_text("\n")
    with pytest.raises(ValueError, match="empty.scp: the list is empty"):
        read_scp(tmp_path / "empty.scp")


def test_a_written_list_can_be_moved_with_its_folder(tmp_path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    write_scp(folder / "a.scp", {"x.wav": folder / "in side/x.wav", "y.wav": "/elsewhere/y.wav"})
    moved = folder.rename(tmp_path / "two")
    assert read_scp(moved / "a.scp") == {"x.wav": moved / "in side/x.wav", "y.wav": moved / "/elsewhere/y.wav"}
    with pytest.raises(ValueError, match="'a b'"):
        write_scp(moved / "a.scp", {"a b": "x.wav"})
