"""The hub's rows, from servers on this machine that answer well, badly, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from fastinfer.machine.checks.hub import HubReading, judge, read
from hub_sessions import close_sessions

Serve = Callable[..., list[tuple[str, str, str | None]]]
TOKEN = "hf_secretsecretsecret"


@pytest.fixture(autouse=True)
def plain_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's settings for the hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serve as the hub, with a status or after a wait; the requests it gets: method, path and authorization."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []
    released = threading.Event()

    def start(status: int, *, wait: bool = False) -> list[tuple[str, str, str | None]]:
        requests: list[tuple[str, str, str | None]] = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                requests.append((self.command, self.path, self.headers.get("Authorization")))
                if wait:
                    released.wait(30)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        return requests

    yield start
    released.set()
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
    close_sessions()


def test_a_hub_that_answers_is_asked_once_without_a_token(serve: Serve, by_name: Any) -> None:
    requests = serve(200)
    reading = read()
    assert (reading.status, reading.problem, reading.token) == (200, "", False)
    assert requests == [("HEAD", "/api/models?limit=1", None)]
    found = by_name(judge(reading))
    assert {name: row.status for name, row in found.items()} == {"hub": "ok", "access token": "ok", "proxy": "ok"}
    assert found["hub"].found.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused_is_a_failure_and_never_shown(
    serve: Serve, by_name: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    requests = serve(status)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    reading = read()
    assert requests[0][2] == f"Bearer {TOKEN}"
    found = by_name(judge(reading))
    assert (found["access token"].status, found["access token"].remedy) == ("fail", "hf auth login")
    assert found["hub"].status == "ok"
    assert TOKEN not in f"{reading}{found}"


def test_a_hub_that_wants_a_token_says_so(serve: Serve, by_name: Any) -> None:
    serve(401)
    row = by_name(judge(read()))["hub"]
    assert (row.status, row.remedy) == ("warn", "hf auth login")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_in_trouble_is_a_warning(serve: Serve, by_name: Any, status: int) -> None:
    serve(status)
    row = by_name(judge(read()))["hub"]
    assert (row.status, row.remedy) == ("warn", "export HF_HUB_OFFLINE=1")
    assert f"HTTP {status}" in row.meaning


def test_a_hub_that_hangs_is_left_in_time(serve: Serve, by_name: Any) -> None:
    serve(200, wait=True)
    begun = time.monotonic()
    reading = read(seconds=0.3)
    assert time.monotonic() - begun < 3
    assert reading.status is None
    row = by_name(judge(reading))["hub"]
    assert (row.status, "cannot be reached" in row.found) == ("warn", True)


def test_a_hub_that_sends_a_byte_now_and_then_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        stopped = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stopped.wait(0.1):
                    connection.sendall(b"X: y\r\n")
                connection.sendall(b"Content-Length: 0\r\n\r\n")

        thread = threading.Thread(target=drip)
        thread.start()
        reading = read(seconds=0.3)
        stopped.set()
        thread.join()
    assert (reading.status, reading.problem) == (None, "No answer after 0.3 seconds")
    time.sleep(0.2)  # until the client's thread has its answer, and its connection can be closed
    close_sessions()


def test_a_port_where_nobody_listens_is_a_warning(by_name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://name:secret@127.0.0.1:{unused.getsockname()[1]}")
        reading = read()
    row = by_name(judge(reading))["hub"]
    assert (row.status, row.remedy) == ("warn", "export HF_HUB_OFFLINE=1")
    assert "Connect" in row.meaning
    assert "secret" not in f"{reading}{row}"


def test_an_endpoint_that_is_no_address_is_a_warning(by_name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "not an address")
    assert by_name(judge(read()))["hub"].status == "warn"


def test_offline_by_choice_asks_nobody(serve: Serve, by_name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = serve(200)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    row = by_name(judge(read()))["hub"]
    assert (row.status, row.found, requests) == ("ok", "offline by choice", [])


def test_without_the_network_nobody_is_asked(serve: Serve, by_name: Any) -> None:
    requests = serve(200)
    row = by_name(judge(read(network=False)))["hub"]
    assert (row.status, requests) == ("ok", [])
    assert row.found.endswith("not asked")


def test_a_proxy_is_shown_without_its_password(by_name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:pass/word@proxy.example:3128")
    monkeypatch.setenv("ALL_PROXY", "me:password@proxy.example:1080")
    reading: HubReading = read(network=False)
    row = by_name(judge(reading))["proxy"]
    assert row.status == "ok"
    assert "HTTPS_PROXY=http://proxy.example:3128" in row.found
    assert "ALL_PROXY=proxy.example:1080" in row.found
    assert "pass" not in f"{reading}"
