"""llama-server: started on a free port of this machine, asked over HTTP by clients that stream."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .profile import Profile
from .workload import SAMPLING, Request, Run, Workload, drive


class LlamaServer:
    """A running llama-server.

    Args:
        binaries: the folder with the program.
        model: the GGUF file.
        profile: context, batches and slots.
        template: a Jinja file that replaces the model's own chat template, or None.
        log: where its output goes.
        limit: seconds that its start, or the next piece of an answer, may take.
        flags: more of its flags, which may repeat earlier ones.
    """

    def __init__(
        self,
        binaries: Path,
        model: Path,
        profile: Profile,
        template: Path | None,
        log: Path,
        limit: float,
        flags: Sequence[str] = (),
    ) -> None:
        self._limit = limit
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.command = [
            *(str(binaries / "llama-server"), "-m", str(model), *shared_flags(profile)),
            *("--parallel", str(profile.slots), "--host", "127.0.0.1", "--port", str(self._port), "--no-ui"),
            *(("--chat-template-file", str(template)) if template else ()),
            *profile.server_flags,
            *flags,
        ]
        self._log = log.open("ab")
        started = time.perf_counter()
        self._process = subprocess.Popen(self.command, stdout=self._log, stderr=subprocess.STDOUT)
        self.pid = self._process.pid
        try:
            self._wait(log)
        except BaseException:
            self.close()
            raise
        self.info: dict[str, Any] = {
            "command": " ".join(["llama-server", *self.command[1:]]),
            "start_seconds": round(time.perf_counter() - started, 1),
            "slots": self._get("/props").get("total_slots"),
        }

    def run(self, workload: Workload) -> Run:
        """Send a workload from threads of this process, which does nothing else meanwhile."""
        return drive(self._stream, workload)

    def close(self) -> None:
        """Stop the server."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _stream(self, request: Request) -> Iterator[Any]:
        body = {
            "messages": request.messages,
            "max_tokens": request.max_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **SAMPLING,
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._limit)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"llama-server answered {response.status}: {response.read(500)!r}")
            for line in response:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                for choice in event.get("choices", ()):
                    delta = choice["delta"]
                    yield delta.get("content") or delta.get("reasoning_content") or ""
                if "error" in event:
                    raise RuntimeError(str(event["error"]))
                if event.get("usage"):
                    yield counts(event)
        finally:
            connection.close()

    def _get(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            content = json.loads(response.read() or b"{}")
            return content if response.status == 200 and isinstance(content, dict) else {}
        finally:
            connection.close()

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + self._limit
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                tail = log.read_text("utf-8", "replace")[-2000:]
                raise RuntimeError(f"llama-server ended with {self._process.returncode}:\n{tail}")
            with contextlib.suppress(OSError):
                if self._get("/health").get("status") == "ok":
                    return
            time.sleep(0.1)
        raise RuntimeError(f"llama-server was not ready within {self._limit:.0f} s, see {log}")


def shared_flags(profile: Profile) -> list[str]:
    """The flags that llama-server and llama-batched-bench have in common."""
    flags = ["-c", str(profile.context), "-b", str(profile.batch), "-ub", str(profile.micro_batch), "-fa", "on"]
    flags += ["-ctk", profile.kv, "-ctv", profile.kv, "-ngl", "999" if profile.gpu else "0"]
    if profile.threads:
        flags += ["--threads", str(profile.threads)]
    return flags


def counts(event: dict[str, Any]) -> dict[str, float]:
    """The counts of a reply's last event."""
    usage, timings = event["usage"], event.get("timings", {})
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "cached_tokens": timings.get("cache_n", usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)),
        "prompt_ms": timings.get("prompt_ms", 0.0),
        "predicted_ms": timings.get("predicted_ms", 0.0),
    }
