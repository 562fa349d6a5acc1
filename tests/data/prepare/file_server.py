"""A server on this machine that breaks off, ignores ranges, changes its files, ...: what downloads must bear."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import constants

BODY = bytes(range(256)) * 4096
HALF = len(BODY) // 2
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"
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


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def archive(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    """A .tar.gz of files and of other members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for member in members:
            tar.addfile(member)
    return buffer.getvalue()


def set_endpoint(monkeypatch, address: str) -> None:
    """As if HF_ENDPOINT had been set before huggingface_hub was imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def serve_hub(server: Server, monkeypatch, names: list[str], *, repository: str = "microsoft/wavlm-large") -> None:
    """The few answers of the hub that its client asks for; each file holds its own name."""
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
