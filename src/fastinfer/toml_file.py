"""Reading a TOML file into a dictionary, with the place of a mistake in the error."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from fastinfer.errors import PresetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_toml"]

_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)$")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, with or without a byte order mark.

    Raises:
        PresetError: the file cannot be read, is not UTF-8, or is not TOML; names the file and, for the last two,
            line and column.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PresetError(
            f"{path}: cannot be read: {error.strerror or error}.", hint="Check that it is a file and its permissions."
        ) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _end_of(raw[: error.start].decode("utf-8", "replace"))
        raise PresetError(
            f"{path}, line {line}, column {column}: not UTF-8 text.", hint="Save the file as UTF-8."
        ) from error
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _PLACE.search(message)
        line, column = (int(place[1]), int(place[2])) if place else _end_of(text)
        what = message.partition(" (at ")[0]
        raise PresetError(
            f"{path}, line {line}, column {column}: not valid TOML: {what}.", hint="Correct the file there."
        ) from error
    return tables


def _end_of(text: str) -> tuple[int, int]:
    """Line and column, both from 1, just after the text."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")
