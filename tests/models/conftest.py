"""Small GGUF files, and a server that speaks as much of the hub's API as fetching a model takes."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from hub_sessions import close_sessions

UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 6, 7, 8, 9, 10
F32, Q8_0 = 0, 8
PIECE = 1 << 18  # bytes that the server writes at once


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def scalar(value: object) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + text(value)
    assert isinstance(value, list)
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(text, value))
    return struct.pack("<IIQ", ARRAY, UINT32, len(value)) + struct.pack(f"<{len(value)}I", *value)


def make_gguf(
    architecture: str | None = "llama",
    *,
    metadata: dict[str, object | bytes] | None = None,
    tensors: list[tuple[str, tuple[int, ...], int, int]] | None = None,
    data: int = 128 + 160 + 16,
    alignment: int = 32,
    version: int = 3,
) -> bytes:
    """A file; a metadata value given as bytes is taken as it is, its type included."""
    pairs: dict[str, Any] = {} if architecture is None else {"general.architecture": architecture}
    pairs |= {"tokenizer.ggml.tokens": ["a", "bc", ""], "llama.sizes": [1, 2, 3], **(metadata or {})}
    if tensors is None:
        tensors = [("a", (8, 4), F32, 0), ("b", (32, 2), Q8_0, 128), ("c", (4,), F32, 224)]
        data = 128 + 96 + 16
    body = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    for key, value in pairs.items():
        body += text(key) + (value if isinstance(value, bytes) else scalar(value))
    for name, shape, code, offset in tensors:
        body += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, code, offset)
    return body + bytes(-len(body) % alignment) + bytes(data)


@pytest.fixture(scope="session")
def gguf() -> Callable[..., bytes]:
    return make_gguf


@pytest.fixture(scope="session")
def model() -> bytes:
    return make_gguf()


@pytest.fixture(scope="session")
def projector() -> bytes:
    return make_gguf("clip")


class Repo:
    """A repository: files by commit, commits by branch, and how access to it fails, if it does."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {}
        self.fails_with: tuple[int, str] | None = None  # status and the hub's code for the error
        self.lists_files_without_access = False
        self.token: str | None = None
        self.push(files)

    def push(self, files: dict[str, bytes], branch: str = "main") -> str:
        commit = hashlib.sha1(f"{sorted(files)}{len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit


class Hub:
    """The server's state, and the requests it got as ``(method, path)``."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[tuple[str, str]] = []
        self.after_listing: Callable[[], object] = lambda: None
        self.endpoint = ""
        self.listing: bytes | None = None  # in place of the right answer
        self.cut_after: int | None = None  # bytes of the next file after which the connection ends
        self.knows_ranges = True
        self.sent = 0  # bytes of bodies

    def add_files(self, name: str, files: dict[str, bytes]) -> Repo:
        self.repos[name] = Repo(files)
        return self.repos[name]

    def fetched(self) -> list[str]:
        """The files that were asked for, in order."""
        gets = [path.partition("/resolve/")[2] for method, path in self.requests if method == "GET"]
        return [path.partition("/")[2] for path in gets if path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path, query = urlsplit(self.path)[2:4]
        words = [unquote(word) for word in path.strip("/").split("/")]
        self.hub.requests.append((self.command, "/".join(words)))
        listing = words[:2] == ["api", "models"]
        words = words[2:] if listing else words
        repo = self.hub.repos.get("/".join(words[:2]))
        if repo is None:
            return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})
        access = repo.token is None or self.headers.get("Authorization") == f"Bearer {repo.token}"
        if repo.fails_with and not (listing and repo.lists_files_without_access) and not (repo.token and access):
            status, code = repo.fails_with
            return self.send(status, b"<html>no</html>", {"X-Error-Code": code} if code else {})
        revision = "/".join(words[3:]) if listing else words[3]
        revision = revision or "main"
        commit = revision if revision in repo.commits else repo.branches.get(revision)
        if commit is None:
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        files = repo.commits[commit]
        if listing:
            return self.send_listing("/".join(words[:2]), words[2:3] == ["tree"], "blobs" in query, commit, files)
        name = "/".join(words[4:])
        if name not in files:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        etag = hashlib.sha1(files[name] + name.encode()).hexdigest()
        return self.send(200, files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"})

    def send_listing(self, name: str, tree: bool, sizes: bool, commit: str, files: dict[str, bytes]) -> None:
        siblings = [{"rfilename": path, **({"size": len(content)} if sizes else {})} for path, content in files.items()]
        data: Any = {"id": name, "sha": commit, "siblings": siblings}
        if tree:
            data = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
        self.send(200, self.hub.listing or json.dumps(data).encode(), {"Content-Type": "application/json"})
        self.hub.after_listing()

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        start, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if start and status == 200 and self.hub.knows_ranges:
            end = min(int(last) + 1 if last else len(body), len(body))
            headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(body)}"}
            status, body = 206, body[int(start) : end]
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if "ETag" in headers and self.hub.cut_after is not None:
            body, self.hub.cut_after, self.close_connection = body[: self.hub.cut_after], None, True
        try:
            for begin in range(0, len(body), PIECE):
                self.wfile.write(body[begin : begin + PIECE])
                self.hub.sent += len(body[begin : begin + PIECE])
        except ConnectionError:  # who asked has seen enough
            self.close_connection = True


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, file_download

    close_sessions()
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    for module in (constants, file_download):  # older versions of huggingface_hub read it from the second
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of huggingface_hub, and nothing of the machine's settings for it."""
    from huggingface_hub import constants

    folder = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which folders for a time are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()
    handler = type("BoundHandler", (Handler,), {"hub": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    point_to(state.endpoint, monkeypatch)
    yield state
    close_sessions()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def go_offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Behave as with HF_HUB_OFFLINE from now on."""
    from huggingface_hub import constants

    def go() -> None:
        close_sessions()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    return go


@pytest.fixture
def cut_network(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have every connection refused from now on."""

    def cut() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        point_to(f"http://127.0.0.1:{port}", monkeypatch)

    return cut
