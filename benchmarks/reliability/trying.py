"""Something tried in a process of its own, which may crash, hang or be wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

#: Before the line of a child's standard output that holds what it found.
_MARK = "found: "


@dataclass(frozen=True)
class Try:
    """How a try ended.

    Attributes:
        outcome: ``right`` or ``wrong`` by what was found, ``error: NAME``, ``crash: SIGNAL``, ``hang``.
        found: what the child told, None where it could not.
        said: the end of its standard error.
        seconds: it took.
    """

    outcome: str
    found: dict[str, Any] | None
    said: str
    seconds: float


def run(module: str, what: dict[str, Any], limit: float) -> Try:
    """Run ``python -m MODULE --child WHAT`` and say how it ended.

    Args:
        module: whose ``--child`` calls :func:`tell`.
        what: plain values for it.
        limit: seconds after which it counts as hanging.
    """
    command = [sys.executable, "-m", module, "--child", json.dumps(what)]
    begun = time.monotonic()
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}  # else llama.cpp calls a debugger when it aborts
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        said = error.stderr or b""
        return Try("hang", None, _end(said if isinstance(said, str) else said.decode("utf-8", "replace")), limit)
    lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    found = json.loads(lines[-1].removeprefix(_MARK)) if lines else None
    return Try(_outcome(done.returncode, found), found, _end(done.stderr), round(time.monotonic() - begun, 1))


def command(module: str) -> str:
    """The command line that this process was called with."""
    return " ".join([f"python -m benchmarks.reliability.{module}", *sys.argv[1:]])


def tell(found: dict[str, Any]) -> None:
    """In the child: what it found; ``outcome`` in it is how the try ended, if the process ends well."""
    print(_MARK + json.dumps(found), flush=True)


def _end(said: str) -> str:
    """Its last lines, without the folder that llama.cpp was compiled in."""
    return re.sub(r"\S*/vendor/", "vendor/", said)[-500:]


def _outcome(code: int, found: dict[str, Any] | None) -> str:
    if code < 0:
        return f"crash: {signal.Signals(-code).name}"
    if code or found is None:
        return f"crash: exit code {code}"
    return str(found["outcome"])
