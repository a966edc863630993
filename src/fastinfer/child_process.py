"""Processes of our own for what may end the process that does it."""

from __future__ import annotations

import json
import sys
from typing import Final

__all__ = ["calling"]

#: Isolated, so that neither the environment nor a file in the working directory decides what is imported; then its
#: modules come from where ours do.
_CALL: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from importlib import import_module; "
    "getattr(import_module(sys.argv[2]), sys.argv[3])(*sys.argv[4:])"
)


def calling(module: str, function: str, *arguments: str) -> list[str]:
    """The command of a process that calls a function and ends.

    Args:
        module: the function's module, by its full name.
        function: its name.
        arguments: what it is called with.

    Raises:
        OSError: this interpreter is part of another program.
    """
    if not sys.executable:
        raise OSError("this interpreter does not know its own executable")
    return [sys.executable, "-I", "-c", _CALL, json.dumps(sys.path), module, function, *arguments]
