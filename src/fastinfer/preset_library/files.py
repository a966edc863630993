"""The preset files: where they are, which goes before which, and the tables in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

from fastinfer.errors import PresetError
from fastinfer.preset_library.schema import Kind
from fastinfer.preset_library.validation import nearest
from fastinfer.toml_file import read_toml

__all__ = [
    "BUILT_IN",
    "FILE_NAME",
    "KINDS",
    "Layer",
    "builtin_layer",
    "names",
    "preset_layers",
    "read_layer",
    "user_preset_files",
]

BUILT_IN: Final = "built-in"
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_BUILTIN_FILE: Final = Path(__file__).with_name("builtin.toml")
FILE_NAME: Final = "fastinfer.toml"
_VARIABLE: Final = "FASTINFER_PRESETS"


@dataclass(frozen=True)
class Layer:
    """The preset tables of one file.

    Attributes:
        source: ``"built-in"`` or the file's path.
        tables: fields by kind and name.
    """

    source: str
    tables: dict[str, dict[str, dict[str, Any]]]


def preset_layers() -> list[Layer]:
    """Every preset file, read: highest precedence first, the built-in presets last.

    Raises:
        PresetError: a file cannot be read, is not TOML, or holds something that is no preset.
    """
    return [*(read_layer(path, str(path)) for path in user_preset_files()), builtin_layer()]


def names(layers: list[Layer], kind: Kind) -> list[str]:
    """The names of the presets of a kind, those of the last (built-in) layer first."""
    ordered = [*layers[-1:], *layers[:-1]]
    return list(dict.fromkeys(name for layer in ordered for name in layer.tables.get(kind, {})))


def user_preset_files() -> list[Path]:
    """The user's preset files that exist, highest precedence first.

    They are ``fastinfer.toml`` in the working directory, ``fastinfer/fastinfer.toml`` in the user's configuration
    folder (XDG_CONFIG_HOME or ``~/.config``; ``~/Library/Application Support`` on macOS; APPDATA on Windows), and the
    file that FASTINFER_PRESETS names.

    Raises:
        PresetError: FASTINFER_PRESETS names something that is not a file.
    """
    candidates = [Path(FILE_NAME)]
    folder = _configuration_folder(sys.platform, os.environ)
    if folder is not None:
        candidates.append(folder / "fastinfer" / FILE_NAME)
    files = [path.absolute() for path in candidates if _is_file(path)]
    if named := os.environ.get(_VARIABLE):
        try:
            path = Path(named).expanduser().absolute()
        except RuntimeError:
            path = Path(named)  # ~somebody without a home folder; reported below
        if not _is_file(path):
            raise PresetError(
                f"{_VARIABLE} names {path}, which is not a file.",
                hint="Correct the variable, or unset it.",
            )
        files.append(path)
    return list(dict.fromkeys(files))


def _configuration_folder(platform: str, environment: Mapping[str, str]) -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:
        return None  # an account without a home folder
    if platform == "darwin":
        return home / "Library" / "Application Support"
    if platform == "win32":
        return Path(environment.get("APPDATA") or home / "AppData" / "Roaming")
    named = Path(environment.get("XDG_CONFIG_HOME", ""))
    return named if named.is_absolute() else home / ".config"  # the XDG standard: ignore a relative path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False  # a folder that may not be entered holds no presets for this user


@cache
def builtin_layer() -> Layer:
    """The presets that come with the library."""
    return read_layer(_BUILTIN_FILE, BUILT_IN)


def read_layer(path: Path, source: str) -> Layer:
    """The presets of a file.

    Args:
        path: the file.
        source: what its presets give as their source.

    Raises:
        PresetError: the file cannot be read, is not TOML, or holds something that is no preset.
    """
    tables = read_toml(path)
    for kind, named in tables.items():
        if kind not in KINDS:
            close = nearest(kind, KINDS)
            raise PresetError(
                f"{path}: unknown table [{kind}]{f'; did you mean [{close[0]}]?' if close else '.'}",
                hint="Presets are tables [classify.NAME] or [chat.NAME].",
            )
        loose = [name for name in named if not isinstance(named[name], dict)] if isinstance(named, dict) else [kind]
        if loose:
            raise PresetError(
                f"{path}: {loose[0]!r} under [{kind}] is not a preset.",
                hint=f"Put its fields into a table [{kind}.NAME].",
            )
    return Layer(source=source, tables=tables)
