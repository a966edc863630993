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
LARGE = (".gguf", ".safetensors", ".bin", ".pth")  # what the hub does not keep in Git itself


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
        """Add a commit to a branch, or have a tag name it."""
        commit = hashlib.sha1(f"{sorted(files)}{len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def large_file(name: str, content: bytes) -> dict[str, Any] | None:
    """What the hub says of a file that does not lie in Git itself."""
    if not name.endswith(LARGE):
        return None
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}


def etag_of(name: str, content: bytes) -> str:
    large = large_file(name, content)
    return large["sha256"] if large else git_blob(content)


class Hub:
    """The server's state, and the requests it got as ``(method, path)``."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[str] = []  # of each file asked for, empty for a whole one
        #: Status and headers in place of the right answer to the next requests of a kind.
        self.busy: dict[str, list[tuple[int, dict[str, str]]]] = {"listing": [], "HEAD": [], "GET": []}
        self.etag = ""  # in place of the right one
        self.damaged: dict[str, bytes] = {}  # what is sent in place of a file's content
        self.stall_after: int | None = None  # bytes of the next file after which nothing more comes
        self.after_listing: Callable[[], object] = lambda: None
        self.listing: bytes | None = None  # in place of the right answer
        self.cuts: list[int] = []  # bytes of the next files after which the connection ends
        self.ended = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": self}))
        self.knows_ranges = True
        self.sent = 0  # bytes of bodies

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def add_files(self, name: str, files: dict[str, bytes]) -> Repo:
        self.repos[name] = Repo(files)
        return self.repos[name]

    def fetched(self) -> list[str]:
        """The files that were asked for, in order."""
        gets = [path.partition("/resolve/")[2] for method, path in self.requests if method == "GET"]
        return [path.partition("/")[2] for path in gets if path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are written one after the other
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
        if waiting := self.hub.busy["listing" if listing else self.command]:
            return self.send_busy(waiting.pop(0))
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
        if words[2:3] == ["commits"]:
            return self.send(200, json.dumps([commit_data(name) for name in reversed(repo.commits)]).encode(), {})
        if listing:
            return self.send_listing("/".join(words[:2]), words[2:3] == ["tree"], "blobs" in query, commit, files)
        name = "/".join(words[4:])
        if name not in files:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        if self.command == "GET":
            self.hub.ranges.append(self.headers.get("Range", ""))
        etag = self.hub.etag or etag_of(name, files[name])
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        return self.send(200, self.hub.damaged.get(name, files[name]), headers)

    def send_busy(self, answer: tuple[int, dict[str, str]]) -> None:
        status, headers = answer
        self.send(status, b"later", headers)

    def send_listing(self, name: str, tree: bool, sizes: bool, commit: str, files: dict[str, bytes]) -> None:
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in files]
        if sizes:
            for sibling, (path, content) in zip(siblings, files.items(), strict=True):
                sibling |= {"size": len(content), "blobId": git_blob(content)}
                if large := large_file(path, content):
                    sibling["lfs"] = large
        data: Any = {"id": name, "sha": commit, "siblings": siblings}
        if tree:
            data = [
                {"type": "file", "path": path, "size": len(content), "oid": git_blob(content)}
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
        if "ETag" in headers and self.hub.cuts:
            body, self.close_connection = body[: self.hub.cuts.pop(0)], True
        if "ETag" in headers and self.hub.stall_after is not None:
            self.wfile.write(body[: self.hub.stall_after])
            self.hub.sent += self.hub.stall_after
            self.hub.stall_after, self.close_connection = None, True
            self.hub.ended.wait()
            return
        try:
            for begin in range(0, len(body), PIECE):
                self.wfile.write(body[begin : begin + PIECE])
                self.hub.sent += len(body[begin : begin + PIECE])
        except ConnectionError:  # who asked has seen enough
            self.close_connection = True


def commit_data(name: str) -> dict[str, Any]:
    return {"id": name, "title": "", "message": "", "date": "2026-01-01T00:00:00.000Z", "authors": []}


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
    thread = threading.Thread(target=state.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    point_to(state.endpoint, monkeypatch)
    yield state
    state.ended.set()
    close_sessions()
    state.server.shutdown()
    state.server.server_close()
    thread.join()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times for which requests to the hub were put off, in seconds; nobody waits for them."""
    waited: list[float] = []
    monkeypatch.setattr("fastinfer.models.hub_requests._wait", lambda seconds, why: waited.append(seconds))
    return waited


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
