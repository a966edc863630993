"""The command line in this process, in one of its own, and on a terminal; without the machine's own settings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fastinfer
from fastinfer.cli.app import app

SAMPLES = Path(fastinfer.__file__).parent / "samples"


@pytest.fixture(autouse=True)
def working_directory(bare_account: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # This checkout first, in place of one that is named relative to the working directory.
    monkeypatch.setenv("PYTHONPATH", str(SAMPLES.parents[1]), prepend=os.pathsep)
    # Typer and rich would colour what they write and take another width.
    monkeypatch.setenv("TERM", "dumb")
    unwanted = ("FORCE_COLOR", "GITHUB_ACTIONS", "COLUMNS", "PY_COLORS", "FASTINFER_TRACEBACK")
    for name in unwanted:
        monkeypatch.delenv(name, raising=False)
    return bare_account


@pytest.fixture
def samples() -> Path:
    return SAMPLES


@pytest.fixture
def run() -> Callable[..., Any]:
    """Run a command in this process."""

    def run(*arguments: str | Path, stdin: bytes | None = None) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)

    return run


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[bytes]]:
    """Start a command in a process of its own."""

    def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        if os.name != "nt":
            # A shell's background jobs ignore SIGINT and hand that on; a terminal's programs do not.
            options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        return subprocess.Popen([sys.executable, "-m", "fastinfer", *map(str, arguments)], **options)

    return start


@pytest.fixture
def on_terminal(start: Callable[..., subprocess.Popen[bytes]]) -> Callable[..., tuple[int, str]]:
    """Run a command on a terminal of some width; its exit code and what the terminal got."""
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    def run(width: int, *arguments: str | Path) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
        process = start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux reports the other end's closing so
                break
            if not part:
                break
            written += part
        os.close(ours)
        return process.wait(), written.decode()

    return run
