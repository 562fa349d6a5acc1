from __future__ import annotations

import logging
import socket

import pytest

from page import server
from page.line import Stopped
from page.room import Room, Rooms
from page.visit import message, note, noted, told


def test_errors_are_told_with_the_names_that_people_know(tmp_path) -> None:
    room = Room(tmp_path / "room")
    room.adopt("/tmp/uploads/3f2a/talk <b>.wav")
    said = told(room, ValueError("/tmp/uploads/3f2a/talk <b>.wav holds no samples"))
    assert "error: talk &lt;b&gt;.wav holds no samples" in said and 'role="alert"' in said
    assert "stopped" in told(room, Stopped())


def test_a_fault_of_the_program_is_told_as_one_and_the_log_has_all_of_it(tmp_path, caplog) -> None:
    try:
        raise KeyError("nothing")
    except KeyError as error:
        said = told(Room(tmp_path / "room"), error)
    assert "a fault of the program, KeyError" in said
    assert "Traceback" in caplog.text and "nothing" in caplog.text


def test_what_the_log_warns_of_one_s_files_is_noted_and_of_others_not(tmp_path) -> None:
    room = Room(tmp_path / "room")
    room.adopt("/tmp/uploads/3f2a/talk.wav")
    log = logging.getLogger("data.audio")
    with noted(room) as notes:
        log.warning("%s: its %d channels cancel", "/tmp/uploads/3f2a/talk.wav", 2)
        log.warning("/tmp/uploads/77/other.wav is silent")
    log.warning("/tmp/uploads/3f2a/talk.wav, too late")
    assert notes == ["talk.wav: its 2 channels cancel"]


def test_a_presence_is_shown_where_the_system_tells_one() -> None:
    row = {"score": 0.0312, "pieces": [0.0312], "ends": [3.0]}
    assert note({"presence": ..., "speech": ...}, row) == "presence 0.03 (0: the person is not there, 1: is)"
    assert note({"row": ..., "speech": ...}, {"score": 1.0}) == ""
    assert 'value="0.500"' in message("half", progress=0.5) and message("") == ""


def test_a_tab_takes_its_own_files_with_it_and_leaves_those_of_others(tmp_path) -> None:
    uploads = tmp_path / "uploads"
    rooms, mine, shared = Rooms(tmp_path), uploads / "1/mine.wav", uploads / "2/shared.wav"
    elsewhere = tmp_path / "example.flac"  # is ours, and no upload
    for path in (mine, shared, elsewhere):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for path in (mine, shared, elsewhere):
        rooms.of("../one").adopt(str(path))
    rooms.of("two").adopt(str(shared))
    folder = rooms.of("../one").new_folder()
    assert tmp_path in folder.parents
    rooms.leave("../one", uploads)
    assert not folder.exists() and not mine.parent.exists() and shared.exists() and elsewhere.exists()
    rooms.leave("two", uploads)
    assert not list(uploads.iterdir())
    rooms.leave("three", uploads)  # never came


def test_who_can_see_it_is_told(caplog) -> None:
    caplog.set_level(logging.INFO)
    server.tell("127.0.0.1", 7860)
    assert "http://127.0.0.1:7860, for this machine alone" in caplog.text
    caplog.clear()
    server.tell("0.0.0.0", 7860)
    assert "whoever reaches this machine can use the page, without a password" in caplog.text


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert server.free_port("127.0.0.1", port) > port
    assert server.free_port("127.0.0.1", 0) > 0
    with pytest.raises(OSError, match="cannot listen on port"):
        server.free_port("192.0.2.1", 7860)  # an address that no machine has
