"""Fetching one file: what a server may do meanwhile, what a killed run leaves, and what is recorded of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.prepare.fetch import Ledger, ResumingDownloader, fetch_file, file_size
from tests.data.prepare.file_server import BODY, CLOSED, DATE, HALF, Served, Server, sha256

FILE = "/folder/weights.pth"


def get(server: Server, out: Path) -> Path:
    fetch_file(server.address + FILE, out / "weights.pth", Ledger(out))
    return out / "weights.pth"


def refused(server: Server, out: Path) -> str:
    with pytest.raises((OSError, ValueError)) as error:
        get(server, out)
    return str(error.value)


def record(out: Path) -> dict:
    return json.loads((out / "sha256.json").read_text())


def leave_part(server: Server, out: Path, part: bytes, *, size: int, sha256: str | None = None) -> None:
    """What a killed run leaves."""
    out.mkdir(exist_ok=True)
    (out / "weights.pth.part").write_bytes(part)
    note = {"address": server.address + FILE, "size": size, "etag": '"one"', "modified": DATE, "sha256": sha256}
    (out / "weights.pth.part.json").write_text(json.dumps(note))


def test_file_is_fetched_recorded_and_not_fetched_again(server, out):
    server.files[FILE] = Served()
    assert get(server, out).read_bytes() == BODY
    entry = {"sha256": sha256(BODY), "size": len(BODY), "address": server.address + FILE}
    assert record(out) == {"weights.pth": entry}
    assert sorted(p.name for p in out.iterdir()) == ["sha256.json", "weights.pth"]
    server.asked.clear()
    get(server, out)
    assert server.asked == []


def test_broken_connection_goes_on_where_it_stopped(server, out):
    server.files[FILE] = Served(cut=[HALF, HALF // 4])
    assert get(server, out).read_bytes() == BODY
    assert server.ranges() == [None, f"bytes={HALF}-", f"bytes={HALF + HALF // 4}-"]


def test_next_run_goes_on_and_the_name_appears_at_the_end(server, out):
    served = server.files[FILE] = Served(cut=[HALF, *[0] * 20])
    error = refused(server, out)
    assert server.address + FILE in error and f"{HALF} bytes are kept" in error and str(out / "weights.pth") in error
    assert not (out / "weights.pth").exists() and ResumingDownloader(out / "weights.pth").held == HALF
    assert len(server.ranges()) == 5  # attempts in a row that brought nothing
    served.cut.clear()
    server.asked.clear()
    assert get(server, out).read_bytes() == BODY
    assert server.ranges() == [f"bytes={HALF}-"]
    assert not list(out.glob("*.part*"))


def test_server_that_ignores_ranges(server, out):
    server.files[FILE] = Served(cut=[HALF], ranges=False)
    assert get(server, out).read_bytes() == BODY
    assert server.ranges() == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("change", ["etag", "date", "length"])
@pytest.mark.parametrize("if_range", [True, False], ids=["server compares", "server does not"])
def test_file_that_changed_between_is_fetched_whole(server, out, if_range, change):
    served = server.files[FILE] = Served(cut=[HALF, *[0] * 20], if_range=if_range)
    if change == "date":
        del served.headers["ETag"]
    refused(server, out)
    served.cut.clear()
    served.body = BODY[::-1] + b"more" if change == "length" else BODY[::-1]
    if change == "date":
        served.headers["Last-Modified"] = "Thu, 02 Jan 2025 00:00:00 GMT"
    elif change == "etag":
        served.headers["ETag"] = '"two"'
    assert get(server, out).read_bytes() == served.body


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_proof_of_the_version_it_begins_again(server, out, headers):
    server.files[FILE] = Served(cut=[HALF], headers=headers)
    assert get(server, out).read_bytes() == BODY
    assert server.ranges() == [None, None]


def test_range_that_begins_elsewhere(server, out):
    server.files[FILE] = Served(cut=[HALF], shift=-1)
    assert get(server, out).read_bytes() == BODY


def test_part_that_is_longer_than_the_file(server, out):
    server.files[FILE] = Served(body=BODY[:150_000])
    leave_part(server, out, BODY[:200_000], size=len(BODY))
    assert get(server, out).read_bytes() == BODY[:150_000]  # after a 416


def test_part_that_is_whole_needs_no_server(server, out):
    leave_part(server, out, BODY, size=len(BODY), sha256=sha256(BODY))
    assert get(server, out).read_bytes() == BODY
    assert server.asked == []


def test_damaged_note_begins_again(server, out):
    server.files[FILE] = Served()
    leave_part(server, out, b"something else", size=len(BODY))
    (out / "weights.pth.part.json").write_text("{")
    assert get(server, out).read_bytes() == BODY


def test_without_length_the_file_is_fetched(server, out):
    server.files[FILE] = Served(length=False)
    assert file_size(server.address + FILE) is None
    assert get(server, out).read_bytes() == BODY


def test_server_errors_that_pass_are_waited_for(server, out):
    server.files[FILE] = Served(status=[503, 429])
    assert get(server, out).read_bytes() == BODY


def test_missing_file_and_web_page_name_address_and_place(server, out):
    error = refused(server, out)
    assert "404" in error and server.address + FILE in error and str(out / "weights.pth") in error
    server.files[FILE] = Served(body=b"<html>", headers={"Content-Type": "text/html; charset=utf-8"})
    assert "a web page" in refused(server, out)
    assert not list(out.glob("weights*"))


def test_digest_that_the_hub_names_is_compared(server, out):
    served = server.files[FILE] = Served(redirect=f"{server.address}/cdn/x?signed=1")
    server.files["/cdn/x"] = Served(cut=[HALF])
    served.headers = {"X-Linked-ETag": f'"{sha256(BODY + b"!")}"'}
    error = refused(server, out)
    assert sha256(BODY) in error and sha256(BODY + b"!") in error
    assert not list(out.glob("weights*"))
    served.headers = {"X-Linked-ETag": f'"{sha256(BODY)}"'}
    get(server, out)
    assert ("GET", "/cdn/x", f"bytes={HALF}-") in server.asked


def test_out_of_reach_says_where_to_put_the_file_and_takes_it_from_there(server, out):
    server.address = CLOSED
    error = refused(server, out)
    assert CLOSED + FILE in error and str(out / "weights.pth") in error
    (out / "weights.pth").write_bytes(BODY)
    get(server, out)
    assert record(out)["weights.pth"] == {"sha256": sha256(BODY), "size": len(BODY), "address": None}


def test_file_that_changed_here_names_both_digests(server, out):
    server.files[FILE] = Served()
    get(server, out).write_bytes(b"other")
    error = refused(server, out)
    assert sha256(BODY) in error and sha256(b"other") in error and "Delete the file" in error
    (out / "weights.pth").unlink()
    # Another file at the same address is not taken in silence either.
    get(server, out).unlink()
    server.files[FILE].body = BODY[::-1]
    assert sha256(BODY[::-1]) in refused(server, out)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {"sha256": "x"}}', '{"a": 1}'])
def test_damaged_record_is_named(tmp_path, text):
    (tmp_path / "sha256.json").write_text(text)
    with pytest.raises(ValueError, match="sha256.json is damaged"):
        Ledger(tmp_path)
