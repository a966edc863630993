"""``lmdeploy serve api_server`` with 64 clients, which share a process of their own."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .pipeline import REPLY
from .work import Done, Work

CLIENTS = 64
_NAME = "peer"
_REQUEST_SECONDS = 120


def command(model: str, engine: dict[str, Any], vision_batch: int, port: int) -> list[str]:
    """The documented command line; ``engine`` holds the values of its flags by the names of the engine's fields."""
    parts = [sys.executable, "-m", "lmdeploy", "serve", "api_server", model, "--backend", "turbomind"]
    parts += ["--model-name", _NAME, "--server-name", "127.0.0.1", "--server-port", str(port)]
    parts += ["--max-concurrent-requests", str(CLIENTS), "--log-level", "ERROR", "--disable-fastapi-docs"]
    parts += ["--vision-max-batch-size", str(vision_batch), "--disable-metrics"]
    for field, value in engine.items():
        parts += ["--" + field.replace("_", "-"), str(value)]
    return parts


def open_server(options: dict[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Any], Callable[[], None]]:
    """Start the server and wait until it answers.

    Args:
        options: ``model``, ``prompt``, ``engine`` and ``vision_batch`` as for the pipeline; ``log``, the file for its
            output; ``limit``, seconds that the start may take.
    """
    begun = time.perf_counter()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = command(options["model"], options["engine"], options["vision_batch"], port)
    log = Path(options["log"])
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            line, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "UVICORN_LOG_LEVEL": "warning"}
        )

    def close() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def handle(work: Work) -> Done:
        return ask_together(port, work.images, options["prompt"], 1 if work.how == "one by one" else CLIENTS)

    try:
        wait_until_ready(process, port, log, options["limit"])
    except BaseException:
        close()
        raise
    info = {"command": line[1:], "clients": CLIENTS, "start_seconds": round(time.perf_counter() - begun, 1)}
    return info, handle, close


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path, limit: float) -> None:
    """Wait for the list of models.

    Raises:
        RuntimeError: the server ended, or was not ready within ``limit`` seconds.
    """
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = log.read_text("utf-8", "replace")[-2000:]
            raise RuntimeError(f"api_server ended with {process.returncode}:\n{tail}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/v1/models")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"api_server was not ready within {limit:.0f} s, see {log.name}")


def request_body(image: bytes, prompt: str) -> bytes:
    """A chat completion request for one picture, as a data: URL."""
    url = "data:image/jpeg;base64," + base64.b64encode(image).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
    body = {"model": _NAME, "messages": [{"role": "user", "content": content}], "max_tokens": REPLY, "top_k": 1}
    return json.dumps(body).encode()


def ask_together(port: int, images: list[bytes], prompt: str, clients: int) -> Done:
    """Ask for all pictures from ``clients`` threads, each with a connection that it keeps."""
    done = Done(0.0, 0)
    tokens: list[tuple[int, int]] = []
    lock = threading.Lock()
    waiting: Iterator[bytes] = iter(images)

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_REQUEST_SECONDS)
        with contextlib.closing(connection):
            while True:
                with lock:
                    image = next(waiting, None)
                if image is None:
                    return
                begun = time.perf_counter()
                try:
                    found = exchange(connection, request_body(image, prompt))
                except (OSError, http.client.HTTPException, RuntimeError) as error:
                    connection.close()
                    with lock:
                        done.errors.append(f"{type(error).__name__}: {error}")
                    continue
                with lock:
                    tokens.append(found)
                    done.each_ms.append((time.perf_counter() - begun) * 1e3)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.seconds = time.perf_counter() - started
    done.images = len(tokens)
    if tokens:
        done.prompt_tokens = statistics.median(prompt for prompt, _ in tokens)
        done.generated_tokens = statistics.fmean(reply for _, reply in tokens)
    return done


def exchange(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, int]:
    """One request: the tokens of its prompt and of its reply.

    Raises:
        RuntimeError: the server refused.
    """
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {content[:300]!r}")
    usage = json.loads(content)["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]
