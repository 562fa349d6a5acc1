"""Fetching public files, against a server on this machine that breaks off, ignores ranges, changes its files, ..."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import filelock
import huggingface_hub
import pooch
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from data.prepare import download

ROOT = Path(__file__).parents[3]
BODY = bytes(range(256)) * 4096
HALF = len(BODY) // 2
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"
CHECKPOINT = "/Beilong/TSELM/resolve/main/model_ckpt/tselm_l.pth"
KMEANS = "/Beilong/TSELM/resolve/main/kmeans_ckpt/kmeans_wavlm_ckpt.tar.gz"
CLOSED = "http://127.0.0.1:9"  # nothing listens there


@dataclass
class Served:
    """One file on the server, and how the server misbehaves with it."""

    body: bytes = BODY
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"', "Last-Modified": DATE})
    ranges: bool = True
    if_range: bool = True
    length: bool = True
    status: list[int] = field(default_factory=list)  # of the next answers, instead of the file
    cut: list[int] = field(default_factory=list)  # the next answers break off after so many bytes
    shift: int = 0  # a range that begins elsewhere than asked
    redirect: str | None = None


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, range
        self.address = f"http://127.0.0.1:{self.server_port}"

    def ranges(self) -> list[str | None]:
        return [asked for method, _, asked in self.asked if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *args) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        asked = self.headers.get("Range")
        self.server.asked.append((self.command, path, asked))
        served = self.server.files.get(path)
        if served is None or (body and served.status):
            return self.send_error(served.status.pop(0) if served else 404)
        if served.redirect:
            self.send_response(302)
            for name, value in {**served.headers, "Location": served.redirect, "Content-Length": "0"}.items():
                self.send_header(name, value)
            return self.end_headers()
        start = int(asked[6:-1]) if asked and served.ranges else 0
        condition = self.headers.get("If-Range")
        if condition and served.if_range and condition not in served.headers.values():
            start = 0
        if start and start >= len(served.body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            start += served.shift
            self.send_header("Content-Range", f"bytes {start}-{len(served.body) - 1}/{len(served.body)}")
        if served.length:
            self.send_header("Content-Length", str(len(served.body) - start))
        for name, value in served.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            stop = start + served.cut.pop(0) if served.cut else None
            self.wfile.write(served.body[start:stop])


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    disable_progress_bars()
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    enable_progress_bars()


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "public"


def run(out: Path, *what: str, mirror: str) -> int:
    return download.main(["--output", str(out), "--mirror", mirror, "--what", *what])


def refused(capsys, out: Path, *what: str, mirror: str) -> str:
    capsys.readouterr()
    assert run(out, *what, mirror=mirror) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def record(out: Path) -> dict:
    return json.loads((out / "sha256.json").read_text())


def archive(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for member in members:
            tar.addfile(member)
    return buffer.getvalue()


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


# ---- one file


def test_file_is_fetched_recorded_and_not_fetched_again(server, out, capsys):
    server.files[CHECKPOINT] = Served()
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert (out / "tselm_l.pth").read_bytes() == BODY
    entry = {"sha256": sha256(BODY), "size": len(BODY), "address": server.address + CHECKPOINT}
    assert record(out) == {"tselm_l.pth": entry}
    said = capsys.readouterr().out
    assert "checkpoint: 1.05MB from" in said and f"checkpoint: {out / 'tselm_l.pth'}" in said
    assert sorted(p.name for p in out.iterdir() if p.name != ".download.lock") == ["sha256.json", "tselm_l.pth"]
    server.asked.clear()
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert server.asked == []


def test_broken_connection_goes_on_where_it_stopped(server, out):
    server.files[CHECKPOINT] = Served(cut=[HALF, HALF // 4])
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert (out / "tselm_l.pth").read_bytes() == BODY
    assert server.ranges() == [None, f"bytes={HALF}-", f"bytes={HALF + HALF // 4}-"]


def test_next_run_goes_on_and_the_name_appears_at_the_end(server, out, capsys):
    served = server.files[CHECKPOINT] = Served(cut=[HALF, *[0] * 20])
    error = refused(capsys, out, "checkpoint", mirror=server.address)
    assert server.address + CHECKPOINT in error and f"{HALF} bytes are kept" in error
    assert str(out / "tselm_l.pth") in error
    assert not (out / "tselm_l.pth").exists() and (out / "tselm_l.pth.part").stat().st_size == HALF
    assert len(server.ranges()) == 5  # attempts in a row that brought nothing
    served.cut.clear()
    server.asked.clear()
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert server.ranges() == [f"bytes={HALF}-"] and (out / "tselm_l.pth").read_bytes() == BODY
    assert not list(out.glob("*.part*"))


def test_server_that_ignores_ranges(server, out):
    server.files[CHECKPOINT] = Served(cut=[HALF], ranges=False)
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert (out / "tselm_l.pth").read_bytes() == BODY
    assert server.ranges() == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("change", ["etag", "date", "length"])
@pytest.mark.parametrize("if_range", [True, False], ids=["server compares", "server does not"])
def test_file_that_changed_between_is_fetched_whole(server, out, capsys, if_range, change):
    served = server.files[CHECKPOINT] = Served(cut=[HALF, *[0] * 20], if_range=if_range)
    if change == "date":
        del served.headers["ETag"]
    refused(capsys, out, "checkpoint", mirror=server.address)
    served.cut.clear()
    served.body = BODY[::-1] + b"more" if change == "length" else BODY[::-1]
    if change == "date":
        served.headers["Last-Modified"] = "Thu, 02 Jan 2025 00:00:00 GMT"
    elif change == "etag":
        served.headers["ETag"] = '"two"'
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert (out / "tselm_l.pth").read_bytes() == served.body


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_without_proof_of_the_version_it_begins_again(server, out, headers):
    server.files[CHECKPOINT] = Served(cut=[HALF], headers=headers)
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert (out / "tselm_l.pth").read_bytes() == BODY and server.ranges() == [None, None]


def test_range_that_begins_elsewhere_or_not_at_all(server, out):
    server.files[CHECKPOINT] = Served(cut=[HALF], shift=-1)
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert (out / "tselm_l.pth").read_bytes() == BODY
    (out / "tselm_l.pth").unlink()
    server.files[CHECKPOINT] = Served(body=BODY[:150_000])
    (out / "tselm_l.pth.part").write_bytes(BODY[:200_000])
    note = {
        "address": server.address + CHECKPOINT,
        "size": len(BODY),
        "etag": '"one"',
        "modified": DATE,
        "sha256": None,
    }
    (out / "tselm_l.pth.part.json").write_text(json.dumps(note))
    (out / "sha256.json").unlink()
    assert run(out, "checkpoint", mirror=server.address) == 0  # 416: what is held is longer than the file
    assert (out / "tselm_l.pth").read_bytes() == BODY[:150_000]


def test_part_that_is_whole_needs_no_server(server, out):
    url = server.address + CHECKPOINT
    out.mkdir()
    (out / "tselm_l.pth.part").write_bytes(BODY)
    note = {"address": url, "size": len(BODY), "etag": '"one"', "modified": DATE, "sha256": sha256(BODY)}
    (out / "tselm_l.pth.part.json").write_text(json.dumps(note))
    download.fetch_file(url, out / "tselm_l.pth", download.Ledger(out))
    assert (out / "tselm_l.pth").read_bytes() == BODY and server.asked == []


def test_damaged_note_begins_again(server, out):
    server.files[CHECKPOINT] = Served()
    out.mkdir()
    (out / "tselm_l.pth.part").write_bytes(b"something else")
    (out / "tselm_l.pth.part.json").write_text("{")
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert (out / "tselm_l.pth").read_bytes() == BODY


def test_without_length_the_file_is_fetched(server, out, capsys):
    server.files[CHECKPOINT] = Served(length=False)
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert (out / "tselm_l.pth").read_bytes() == BODY
    assert "unknown size" in capsys.readouterr().out


def test_server_errors_that_pass_are_waited_for(server, out):
    server.files[CHECKPOINT] = Served(status=[503, 429])
    assert run(out, "checkpoint", mirror=server.address) == 0


def test_missing_file_and_web_page_name_address_and_place(server, out, capsys):
    error = refused(capsys, out, "checkpoint", mirror=server.address)
    assert "404" in error and server.address + CHECKPOINT in error and str(out / "tselm_l.pth") in error
    server.files[CHECKPOINT] = Served(body=b"<html>", headers={"Content-Type": "text/html; charset=utf-8"})
    assert "a web page" in refused(capsys, out, "checkpoint", mirror=server.address)
    assert not list(out.glob("tselm_l*"))


def test_digest_that_the_hub_names_is_compared(server, out, capsys):
    served = server.files[CHECKPOINT] = Served(redirect=f"{server.address}/cdn/x?signed=1")
    server.files["/cdn/x"] = Served(cut=[HALF])
    served.headers = {"X-Linked-ETag": f'"{sha256(BODY + b"!")}"'}
    error = refused(capsys, out, "checkpoint", mirror=server.address)
    assert sha256(BODY) in error and sha256(BODY + b"!") in error
    assert not list(out.glob("tselm_l*"))
    served.headers = {"X-Linked-ETag": f'"{sha256(BODY)}"'}
    assert run(out, "checkpoint", mirror=server.address) == 0
    assert ("GET", "/cdn/x", f"bytes={HALF}-") in server.asked


def test_offline_says_where_to_put_the_file_and_takes_it_from_there(server, out, capsys):
    error = refused(capsys, out, "checkpoint", mirror=CLOSED)
    assert CLOSED + CHECKPOINT in error and str(out / "tselm_l.pth") in error
    (out / "tselm_l.pth").write_bytes(BODY)
    assert run(out, "checkpoint", mirror=CLOSED) == 0
    assert record(out)["tselm_l.pth"] == {"sha256": sha256(BODY), "size": len(BODY), "address": None}


def test_file_that_changed_here_names_both_digests(server, out, capsys):
    server.files[CHECKPOINT] = Served()
    assert run(out, "checkpoint", mirror=server.address) == 0
    (out / "tselm_l.pth").write_bytes(b"other")
    error = refused(capsys, out, "checkpoint", mirror=server.address)
    assert sha256(BODY) in error and sha256(b"other") in error and "Delete the file" in error
    (out / "tselm_l.pth").unlink()
    assert run(out, "checkpoint", mirror=server.address) == 0
    # Another file at the same address is not taken in silence either.
    (out / "tselm_l.pth").unlink()
    server.files[CHECKPOINT].body = BODY[::-1]
    assert sha256(BODY[::-1]) in refused(capsys, out, "checkpoint", mirror=server.address)


def test_damaged_record_is_named(out, capsys):
    out.mkdir()
    for text in ("{", "[]", '{"a": {"sha256": "x"}}', '{"a": 1}'):
        (out / "sha256.json").write_text(text)
        assert str(out / "sha256.json") in refused(capsys, out, "checkpoint", mirror=CLOSED)


def test_downloader_speaks_poochs_protocol(server, tmp_path):
    server.files["/file"] = Served()
    downloader = download.ResumingDownloader(tmp_path / "file")
    found = pooch.create(tmp_path, server.address, registry={"file": f"sha256:{sha256(BODY)}"})
    assert found.is_available("file", downloader=downloader)
    assert Path(found.fetch("file", downloader=downloader)).read_bytes() == BODY
    del server.files["/file"]
    assert not found.is_available("file", downloader=downloader)


# ---- archives

CENTRES = {"kmeans_ckpt/a_wavlm_k1000_L1.pt": b"1", "kmeans_ckpt/a_wavlm_k1000_L3.pt": b"3", "kmeans_ckpt/b/c": b""}


def test_archive_is_unpacked_once(server, out, capsys):
    server.files[KMEANS] = Served(body=archive(CENTRES))
    assert run(out, "kmeans", mirror=server.address) == 0
    assert (out / "kmeans" / "a_wavlm_k1000_L3.pt").read_bytes() == b"3"
    assert f"kmeans_path: {out / 'kmeans'}\n" in capsys.readouterr().out
    assert (out / "kmeans").stat().st_mode & 0o055 == 0o055 & ~current_umask()
    server.asked.clear()
    assert run(out, "kmeans", mirror=server.address) == 0
    for path in (out / "archives").iterdir():
        path.unlink()
    assert run(out, "kmeans", mirror=server.address) == 0
    assert server.asked == [] and not list(out.glob(".*unpacking"))


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_folder_that_is_gone_is_unpacked_again_without_a_server(server, out):
    server.files[KMEANS] = Served(body=archive(CENTRES))
    assert run(out, "kmeans", mirror=server.address) == 0
    os.rename(out / "kmeans", out / "elsewhere")
    assert run(out, "kmeans", mirror=CLOSED) == 0
    assert (out / "kmeans" / "b" / "c").exists()


def test_key_names_the_folder_inside_that_holds_the_files(server, out, capsys):
    server.files[KMEANS] = Served(
        body=archive({"readme": b"", **{f"deep/{name}": data for name, data in CENTRES.items()}})
    )
    assert run(out, "kmeans", mirror=server.address) == 0
    assert f"kmeans_path: {out / 'kmeans' / 'deep' / 'kmeans_ckpt'}\n" in capsys.readouterr().out


def test_archive_put_there_by_hand_is_unpacked(out, server):
    (out / "archives").mkdir(parents=True)
    (out / "archives" / "kmeans_wavlm_ckpt.tar.gz").write_bytes(archive(CENTRES))
    assert run(out, "kmeans", mirror=CLOSED) == 0
    assert (out / "kmeans" / "a_wavlm_k1000_L1.pt").exists()


def test_folder_of_another_archive_is_not_taken_for_this_one(out, server, capsys):
    (out / "archives").mkdir(parents=True)
    (out / "archives" / "kmeans_wavlm_ckpt.tar.gz").write_bytes(archive(CENTRES))
    (out / "kmeans").mkdir()
    assert "was not unpacked from" in refused(capsys, out, "kmeans", mirror=CLOSED)
    (out / "archives" / "kmeans_wavlm_ckpt.tar.gz").unlink()
    assert run(out, "kmeans", mirror=CLOSED) == 0  # a folder alone, put there by hand


OUTSIDE = {
    "parent": archive({"../evil": b""}),
    "parent further in": archive({"kmeans/../../evil": b""}),
    "absolute": archive({"/tmp/evil-of-a-test": b""}),
    "link to a parent": archive({}, member("link", tarfile.SYMTYPE, "../..")),
    "absolute link": archive({}, member("link", tarfile.SYMTYPE, "/etc")),
    "link inside": archive({"a": b""}, member("link", tarfile.SYMTYPE, "a")),
    "hard link": archive({}, member("link", tarfile.LNKTYPE, "../../sha256.json")),
    "pipe": archive({}, member("pipe", tarfile.FIFOTYPE)),
    "block device": archive({}, member("disk", tarfile.BLKTYPE)),
    "character device": archive({}, member("terminal", tarfile.CHRTYPE)),
}


@pytest.mark.parametrize("evil", OUTSIDE.values(), ids=OUTSIDE)
def test_archive_that_leaves_its_folder_is_refused(server, out, capsys, evil):
    server.files[KMEANS] = Served(body=evil)
    error = refused(capsys, out, "kmeans", mirror=server.address)
    assert "is refused" in error and str(out / "kmeans") in error
    assert sorted(p.name for p in out.parent.rglob("*") if p.is_file() and p.name != ".download.lock") == [
        "kmeans_wavlm_ckpt.tar.gz",
        "sha256.json",
    ]
    assert not (out / "kmeans").exists() and not Path("/tmp/evil-of-a-test").exists()


def broken_archives() -> dict[str, bytes]:
    whole = archive({"kmeans/a_L1.pt": os.urandom(100_000)})
    checksum = bytearray(whole)
    checksum[-8] ^= 1
    inside = bytearray(whole)
    inside[50_000] ^= 255
    return {
        "cut": whole[:50_000],
        "checksum": bytes(checksum),
        "inside": bytes(inside),
        "no gzip": b"hello",
        "no tar": gzip.compress(b"hello" * 1000),
        "empty": b"",
    }


@pytest.mark.parametrize("kind", list(broken_archives()))
def test_broken_archive_leaves_nothing_and_can_be_replaced(server, out, capsys, kind):
    served = server.files[KMEANS] = Served(body=broken_archives()[kind])
    error = refused(capsys, out, "kmeans", mirror=server.address)
    found = out / "archives" / "kmeans_wavlm_ckpt.tar.gz"
    assert f"{found} is broken" in error and "delete it" in error
    assert not (out / "kmeans").exists() and not list(out.glob(".*unpacking"))
    found.unlink()
    served.body = archive(CENTRES)
    assert run(out, "kmeans", mirror=server.address) == 0


def test_what_a_killed_run_left_is_cleared(server, out):
    (out / ".kmeans.unpacking" / "half").mkdir(parents=True)
    server.files[KMEANS] = Served(body=archive(CENTRES))
    assert run(out, "kmeans", mirror=server.address) == 0
    assert not (out / ".kmeans.unpacking").exists() and not (out / "kmeans" / "half").exists()


# ---- models on the hub


def set_endpoint(monkeypatch, address: str) -> None:
    """As if HF_ENDPOINT had been set before huggingface_hub was imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def serve_hub(server, monkeypatch, names: list[str], *, repository: str = "microsoft/wavlm-large") -> None:
    """The few answers of the hub that its client asks for."""
    set_endpoint(monkeypatch, server.address)
    commit = "0123456789" * 4
    plain = {"Content-Type": "application/json"}
    about = {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in names]}
    tree = [{"type": "file", "path": name, "size": len(name), "oid": "0" * 40} for name in names]
    server.files[f"/api/models/{repository}/revision/main"] = Served(json.dumps(about).encode(), plain)
    server.files[f"/api/models/{repository}/tree/{commit}"] = Served(json.dumps(tree).encode(), plain)
    for name in names:
        headers = {"ETag": f'"{sha256(name.encode())[:40]}"', "X-Repo-Commit": commit}
        server.files[f"/{repository}/resolve/{commit}/{name}"] = Served(name.encode(), headers)


@pytest.mark.parametrize("safe", [True, False])
def test_model_folder_from_the_hub(server, out, monkeypatch, capsys, safe):
    weights = ["pytorch_model.bin", *(["model.safetensors"] if safe else [])]
    serve_hub(server, monkeypatch, ["README.md", "config.json", "preprocessor_config.json", "tf_model.h5", *weights])
    assert download.main(["--output", str(out), "--what", "wavlm"]) == 0
    chosen = "model.safetensors" if safe else "pytorch_model.bin"
    wanted = sorted(["config.json", "preprocessor_config.json", chosen])
    assert sorted(p.name for p in (out / "wavlm-large").iterdir() if p.is_file()) == wanted
    assert list(record(out)) == [f"wavlm-large/{name}" for name in wanted]
    said = capsys.readouterr().out
    assert f"wavlm: {sum(map(len, wanted))}" in said and f"wavlm_path: {out / 'wavlm-large'}" in said
    set_endpoint(monkeypatch, CLOSED)
    assert download.main(["--output", str(out), "--what", "wavlm"]) == 0
    (out / "wavlm-large" / chosen).write_bytes(b"other")
    assert "records" in refused(capsys, out, "wavlm", mirror=CLOSED)


def test_hub_out_of_reach_says_where_to_put_the_model(server, out, monkeypatch, capsys):
    set_endpoint(monkeypatch, CLOSED)
    error = refused(capsys, out, "wavlm", mirror=CLOSED)
    assert f"{CLOSED}/microsoft/wavlm-large" in error and str(out / "wavlm-large") in error and "HF_ENDPOINT" in error
    (out / "wavlm-large").mkdir()
    for name in ("config.json", "pytorch_model.bin"):
        (out / "wavlm-large" / name).write_bytes(b"")
    assert run(out, "wavlm", mirror=CLOSED) == 0


def test_hub_without_weights_is_an_error(server, out, monkeypatch, capsys):
    serve_hub(server, monkeypatch, ["README.md", "config.json"])
    assert "no config.json with" in refused(capsys, out, "wavlm", mirror=CLOSED)


def test_hub_that_goes_away_in_between_is_an_error(server, out, monkeypatch, capsys):
    def goes_away(*args, dry_run=False, **kwargs):
        return real(*args, dry_run=True, **kwargs) if dry_run else str(out)

    real = huggingface_hub.snapshot_download
    serve_hub(server, monkeypatch, ["config.json", "pytorch_model.bin"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", goes_away)
    assert "not all files arrived" in refused(capsys, out, "wavlm", mirror=CLOSED)


# ---- the command


def test_mirror_of_the_hub_holds_for_files_there_too(server, out, monkeypatch):
    set_endpoint(monkeypatch, server.address)
    server.files[CHECKPOINT] = Served()
    assert download.main(["--output", str(out), "--what", "checkpoint"]) == 0
    assert record(out)["tselm_l.pth"]["address"] == server.address + CHECKPOINT


def test_mirror_may_have_a_path_and_must_be_an_address(server, out, capsys):
    server.files[f"/mirror{CHECKPOINT}"] = Served()
    assert run(out, "checkpoint", mirror=f"{server.address}/mirror/") == 0
    assert "'ftp://x'" in refused(capsys, out, "checkpoint", mirror="ftp://x")


def test_groups_next_steps_and_addresses(server, out, capsys):
    folders = {f"{{}}/{role}/a.wav": b"" for role in ("mix_clean", "s1", "aux_s1")}
    base = "/datasets/Beilong/libri2mix_clean_target/resolve/main/libri2mix"
    for part in ("dev", "test"):
        files = {name.format(f"libri2mix_{part}"): data for name, data in folders.items()}
        server.files[f"{base}_{part}.tar.gz"] = Served(body=archive(files))
    for name in ("train-clean-100", "train-clean-360"):
        body = archive({f"LibriSpeech/{name}/1/2/1-2-0000.flac": b"", "LibriSpeech/README.TXT": b""})
        server.files[f"/resources/12/{name}.tar.gz"] = Served(body=body)
    assert run(out, "testsets", "librispeech", mirror=server.address) == 0
    said = capsys.readouterr().out
    assert f"data.prepare.libri2mix {out}/libri2mix_dev\n" in said and f"libri2mix {out}/libri2mix_test\n" in said
    assert f"--output {out}/librispeech.json {out}/train-clean-100 {out}/train-clean-360\n" in said
    assert (out / "libri2mix_dev" / "mix_clean" / "a.wav").exists()
    assert (out / "train-clean-360" / "train-clean-360" / "1" / "2" / "1-2-0000.flac").exists()


def test_disk_that_is_too_small_is_told_before(server, out, monkeypatch, capsys):
    server.files[CHECKPOINT] = Served()
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    error = refused(capsys, out, "checkpoint", mirror=server.address)
    assert "1.05MB to fetch" in error and "1.00kB free" in error and server.ranges() == []


def test_two_runs_into_one_folder(server, out, capsys):
    out.mkdir()
    with filelock.FileLock(out / ".download.lock"):
        assert "another run" in refused(capsys, out, "checkpoint", mirror=server.address)


def test_command_line(tmp_path):
    command = [
        sys.executable,
        "-m",
        "data.prepare.download",
        "--output",
        tmp_path,
        "--mirror",
        "here",
        "--what",
        "weights",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: --mirror must be"), done.stderr
