"""A reading taken in a process of its own, whose crash or standstill is a result and harms nobody."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import Any, Final

from fastinfer.child_process import calling
from fastinfer.errors import EngineUnavailableError

__all__ = ["answer", "ask"]

_SHOWN: Final = 300  # characters of what the process wrote last


def ask(module: str, seconds: float) -> dict[str, Any]:
    """What ``read()`` of a module returns, a dataclass, as a dictionary.

    Args:
        module: its full name.
        seconds: how long it may take; it is ended then.

    Raises:
        EngineUnavailableError: no process can be started, it has crashed, or it has not answered in time.
    """
    try:
        process = subprocess.Popen(
            calling(__name__, "answer", module),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise EngineUnavailableError(f"no process can be started: {error}") from error
    try:
        written, complaint = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        _abandon(process)
        raise EngineUnavailableError(f"it had not answered after {seconds:g} seconds") from error
    if process.returncode:
        raise EngineUnavailableError(_ending(process.returncode, complaint.decode("utf-8", "replace")))
    reading: dict[str, Any] = json.loads(written)
    return reading


def answer(module: str) -> None:
    """The other side: write what ``read()`` of the module returns to standard output, as JSON, and end the process."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # What a library prints must not get into the reply.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with replies:
        json.dump(asdict(importlib.import_module(module).read()), replies)
    os._exit(0)  # the reading is taken: what an engine's library does at the end of a process is of no interest


def _abandon(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    # A process that hangs in a driver may outlive even that.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _ending(code: int, complaint: str) -> str:
    said = f": {complaint.strip().splitlines()[-1][:_SHOWN]}" if complaint.strip() else ""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"its process ended with signal {signal.Signals(-code).name}{said}"
    return f"its process ended with code {code}{said}"
