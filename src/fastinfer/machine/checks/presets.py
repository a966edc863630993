"""The user's preset files: a fault in one stops every command, so it is shown here too."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fastinfer.errors import PresetError
from fastinfer.machine.checks.check import Check
from fastinfer.preset_library import presets, user_preset_files

__all__ = ["check"]

_AREA: Final = "presets"
_NAME: Final = "preset files"


def check() -> Iterator[Check]:
    """The row on the files that hold for the working directory, the account and the environment."""
    try:
        files = user_preset_files()
    except PresetError as error:
        yield Check(_AREA, _NAME, "fail", "not to be read", str(error), "unset FASTINFER_PRESETS")
        return
    try:
        own = [preset for preset in presets() if preset.source != "built-in"]
    except PresetError as error:
        yield Check(_AREA, _NAME, "fail", "not valid", f"No preset can be used. {error}", _open(files, error.message))
        return
    if not files:
        yield Check(_AREA, _NAME, "ok", "none", "The built-in presets are there as they are.")
        return
    meaning = f"Valid; {len(own)} preset{'' if len(own) == 1 else 's'} of your own."
    yield Check(_AREA, _NAME, "ok", ", ".join(map(str, files)), meaning)


def _open(files: list[Path], message: str) -> str:
    """The command that opens the file that an error is about: the error begins with the file's path."""
    named = [file for file in files if message.startswith(str(file))] or files
    return f"${{EDITOR:-vi}} {shlex.quote(str(max(named, key=lambda file: len(str(file)))))}"
