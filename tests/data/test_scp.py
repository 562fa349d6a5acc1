from __future__ import annotations

import pytest

from data import scp
from data.scp import align, output_path, output_paths, read_aligned, read_list, read_scp, write_scp


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


ENROLMENTS = {"mixture": "mix.scp", "enrolment": "aux.scp"}


def write_lists(folder, mix: str | bytes, aux: str | bytes) -> dict:
    for name, text in (("mix.scp", mix), ("aux.scp", aux)):
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return {role: folder / name for role, name in ENROLMENTS.items()}


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path, mark: bytes) -> None:
    lists = write_lists(tmp_path, mark + b"u1 a.wav\r\nu2 b.wav\r\n", "u1 a.wav\nu2 b.wav")
    assert [name for name, _ in read_aligned(lists)] == ["u1", "u2"]
    assert read_scp(lists["mixture"])["u1"] == tmp_path / "a.wav"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read_where_it_is_marked(tmp_path, encoding: str) -> None:
    (tmp_path / "a.scp").write_bytes("u1 ä.wav\nu2 b.wav\n".encode(encoding))
    if encoding == "utf-16":
        assert read_scp(tmp_path / "a.scp") == {"u1": tmp_path / "ä.wav", "u2": tmp_path / "b.wav"}
    else:
        with pytest.raises(ValueError, match="a.scp, line 1: (a NUL byte|not UTF-8)"):
            read_scp(tmp_path / "a.scp")


def test_another_encoding_is_refused_with_the_line(tmp_path) -> None:
    (tmp_path / "a.scp").write_bytes("u1 a.wav\nü2 b.wav\n".encode("latin1"))
    with pytest.raises(ValueError, match="a.scp, line 2: not UTF-8 text .byte 0xfc."):
        read_scp(tmp_path / "a.scp")
    (tmp_path / "a.scp").write_bytes(b"u1 a.wav\nu2 b\0.wav\n")
    with pytest.raises(ValueError, match="a.scp, line 2: a NUL byte"):
        read_scp(tmp_path / "a.scp")


def test_comments_are_no_utterances(tmp_path) -> None:
    lists = write_lists(tmp_path, "# name path\nu1 a.wav\n  # more\n", "u1 #1.wav\n")
    assert align(lists).items == [("u1", {"mixture": f"{tmp_path}/a.wav", "enrolment": f"{tmp_path}/#1.wav"})]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("cat a.wav |", "commands in lists are not run"),
        ("| sox - a.wav", "commands in lists are not run"),
        ("wavs.ark:1234", "Kaldi archives"),
        ("wavs.ark:1234[0:99]", "Kaldi archives"),
        ("~/a.wav", "~ is not expanded"),
        ("$CORPUS/a.wav", "VARIABLES are not expanded"),
        ("/data/${CORPUS}/a.wav", "VARIABLES are not expanded"),
    ],
)
def test_what_is_no_path_is_that_names_problem_alone(tmp_path, entry: str, reason: str) -> None:
    lists = write_lists(tmp_path, f"u1 {entry}\nu2 b.wav\n", "u1 a.wav\nu2 b.wav\n")
    found = align(lists)
    assert [name for name, _ in found.items] == ["u2"] and list(found.problems) == ["u1"]
    for part in ("mix.scp, line 1", repr(entry), reason):
        assert part in found.problems["u1"]
    for read in (lambda: read_scp(lists["mixture"]), lambda: read_aligned(lists)):
        with pytest.raises(ValueError, match=reason):
            read()


@pytest.mark.parametrize("name", ["~/a.wav", "$HOME.wav", "take:12", "a[1]", "9"])
def test_a_file_that_only_looks_like_more_is_a_file(tmp_path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    (tmp_path / "a.scp").write_text(f"u1 {name}\n")
    assert read_scp(tmp_path / "a.scp") == {"u1": tmp_path / name}


def test_a_list_may_be_missing_where_it_is_optional(tmp_path) -> None:
    lists = write_lists(tmp_path, "u1 a.wav\n", "u1 b.wav\n") | {"voiceprint": tmp_path / "spk.scp"}
    assert align(lists, optional=["voiceprint"]).items[0][1].keys() == {"mixture", "enrolment"}
    with pytest.raises(FileNotFoundError, match="spk.scp"):
        align(lists)
    (tmp_path / "spk.scp").write_text("u2 a.npy\n")
    with pytest.raises(ValueError, match="u2 not in"):
        align(lists, optional=["voiceprint"])
    with pytest.raises(FileNotFoundError, match="none of these lists"):
        align({"mixture": tmp_path / "none.scp"}, optional=["mixture"])


def test_values_are_taken_as_they_stand(tmp_path) -> None:
    lists = write_lists(tmp_path, "u1 a.wav\n", "u1 ~ what he said, for $5 | more\n")
    assert align(lists, values=["enrolment"]).items[0][1]["enrolment"] == "~ what he said, for $5 | more"
    assert read_list(lists["enrolment"], paths=False).entries == {"u1": "~ what he said, for $5 | more"}


def test_a_line_ends_only_where_editors_end_it(tmp_path) -> None:
    (tmp_path / "a.scp").write_bytes("u1 a\u2028b.wav\ru2 c\x1cd.wav\r\n".encode())
    assert read_scp(tmp_path / "a.scp") == {"u1": tmp_path / "a\u2028b.wav", "u2": tmp_path / "c\x1cd.wav"}


def test_a_folder_is_no_list(tmp_path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder, not a list"):
        read_scp(tmp_path)


def test_output_paths_are_those_of_each_name(tmp_path) -> None:
    names = ["a.wav", "b/c.flac", "d", "e.v2", "ü x"]
    assert output_paths(tmp_path, names, ".npy") == {name: output_path(tmp_path, name, ".npy") for name in names}
    assert output_paths(tmp_path, ["a.wav"])["a.wav"] == tmp_path / "a.wav"


def test_names_that_cannot_be_written_are_refused_together(tmp_path) -> None:
    names = ["good.wav", "/abs.wav", "../up.wav", "a/../../b", "new\nline", "x.wav", "x.flac", "./x", "y", "y.wav/z"]
    with pytest.raises(ValueError) as error:
        output_paths(tmp_path, [*names, "long" * 70])
    text = str(error.value)
    for part in (
        "'/abs.wav', '../up.wav', 'a/../../b'",
        "'new\\nline' (it holds control characters)",
        "longer than 255 bytes",
        "x.wav and x.flac and ./x",
        "y and what is below y.wav/",
    ):
        assert part in text
    assert "good" not in text
    for name in names[1:4]:
        with pytest.raises(ValueError, match="outside"):
            output_path(tmp_path, name)


def test_large_and_small_letters_collide_only_on_a_disk_that_ignores_them(tmp_path, monkeypatch) -> None:
    names = ["a.wav", "A.wav", "\u00e9", "e\u0301"]
    assert len(output_paths(tmp_path / "new", names)) == 4
    monkeypatch.setattr(scp, "_ignores_case", lambda folder: True)
    with pytest.raises(ValueError, match="a.wav, A.wav, \u00e9, e\u0301 on this disk"):
        output_paths(tmp_path / "new", names)


@pytest.mark.parametrize("name", ["...", "deep/....", "."])
def test_a_name_of_dots_alone_is_no_name_of_a_file(tmp_path, name: str) -> None:
    with pytest.raises(ValueError, match="not names of files"):
        output_paths(tmp_path, [name])
