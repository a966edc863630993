"""Writing presets into a preset file, of which the rest stays as it is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fastinfer.errors import PresetError
from fastinfer.preset_library.files import BUILT_IN, FILE_NAME, builtin_layer, read_layer, user_preset_files
from fastinfer.preset_library.loader import preset_in
from fastinfer.preset_library.preset import Preset
from fastinfer.replacement import Replacement
from fastinfer.toml_file import read_toml

__all__ = ["preset_toml", "save_preset"]

Tables = Mapping[str, Mapping[str, dict[str, Any]]]

_MARK: Final = "\ufeff"  # the byte order mark, which some editors put before a file's text
_LONE_LINE_END: Final = re.compile(r"(?<!\r)\n")


def save_preset(
    preset: Preset,
    path: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a preset into a preset file, as table ``[kind.name]``.

    Everything else in the file stays as it is, byte for byte. The new file is written beside the old one, read back
    and compared with the preset before it takes the old one's place; whatever fails before that leaves the old one
    untouched. A preset that was made from a built-in one is written with ``extends`` and the fields that differ, any
    other with all its fields; the command it may be from is not written.

    Args:
        preset: what is to be saved.
        path: the file, which need not be there yet; None for ``fastinfer.toml`` in the working directory.
        name: the name to save it under; None for its own.
        overwrite: whether a preset of the name that the file has is replaced; what it has beside its fields, comments
            for example, stays.

    Returns:
        The file, as an absolute path.

    Raises:
        PresetError: the file has a preset of the name already, is damaged, or cannot be read or written; there is no
            such folder, no room, or no right to write there; or the name is empty.
    """
    name = _checked(preset.name if name is None else name)
    shown = Path(FILE_NAME if path is None else path).expanduser().absolute()
    with _explained(shown):
        target = shown.resolve()  # a link stays one, and the file it points to is changed
        old = _read(target)
        tables = read_layer(target, str(target)).tables if target.exists() else {}
    if name in tables.get(preset.kind, {}) and not overwrite:
        raise PresetError(
            f"{shown} has a {preset.kind} preset {name!r} already.",
            hint="Save it under another name, or overwrite it.",
        )
    with _explained(shown):
        for values in _forms(preset):
            for text in _texts(old, preset.kind, name, values):
                if _replaced(target, text, preset, name, tables):
                    return shown
    raise PresetError(
        f"{shown}: {preset.kind} preset {name!r} would not be read as it is written.",
        hint="Save it into another file, or under another name.",
    )


def preset_toml(preset: Preset, *, name: str | None = None) -> str:
    """The table that :func:`save_preset` writes for a preset into a new file.

    Args:
        preset: what would be saved.
        name: the name to save it under; None for its own.

    Raises:
        PresetError: the name is empty.
    """
    name = _checked(preset.name if name is None else name)
    return next(_texts("", preset.kind, name, next(_forms(preset))))


def _checked(name: str) -> str:
    if not name:
        raise PresetError("The preset's name is empty.", hint="Give it a name to save it under.")
    return name


def _forms(preset: Preset) -> Iterator[dict[str, Any]]:
    """What may be written for a preset, the shortest first."""
    parameters = preset.parameters.model_dump()
    origin = preset._origin or preset
    if origin.source == BUILT_IN:
        # Not right where a file of lower precedence has a preset of this name; then it is read back as another one.
        yield {"extends": origin.name, **{field: parameters[field] for field in preset.replaced}}
    yield {"summary": preset.summary, **parameters}


def _read(target: Path) -> str:
    if not target.exists():
        return ""
    if not target.is_file() or not os.access(target, os.W_OK):
        raise PresetError(f"{target} is not a file that can be written.", hint="Name another file.")
    read_toml(target)  # says where a damaged file is damaged
    return target.read_bytes().decode("utf-8")


def _texts(old: str, kind: str, name: str, values: Mapping[str, Any]) -> Iterator[str]:
    """The file's text with a table added or changed, in the forms that TOML may allow, the plainest first."""
    import tomlkit

    mark, body = old[: old.startswith(_MARK)], old.removeprefix(_MARK)
    windows = "\r\n" in body and not _LONE_LINE_END.search(body)
    document = tomlkit.parse(body)
    group: Any = document.get(kind, {})
    if name not in group:
        between = "" if not body else "\n" if body.endswith("\n") else "\n\n"
        yield mark + body + _with_line_ends(between + tomlkit.dumps({kind: {name: dict(values)}}), windows)
        if kind not in document:
            return
        # Where the kind is no table of its own, but a value in braces or the beginning of dotted keys.
        group[name] = dict(values)
    else:
        table = group[name]
        for field in [field for field in table if field not in values]:
            del table[field]
        for field, value in values.items():
            if field not in table or table[field] != value:
                table[field] = value
    yield mark + _with_line_ends(tomlkit.dumps(document), windows)


def _with_line_ends(text: str, windows: bool) -> str:
    return _LONE_LINE_END.sub("\r\n", text) if windows else text


def _replaced(target: Path, text: str, preset: Preset, name: str, before: Tables) -> bool:
    """Put a new file in the old one's place, unless it is read as something else than it should be."""
    with Replacement(target) as new:
        new.stream.write(text.encode("utf-8"))
        new.finish()
        if not _reads_as(new.part, target, preset, name, before):
            return False
        new.commit()
    return True


def _reads_as(new: Path, target: Path, preset: Preset, name: str, before: Tables) -> bool:
    try:
        layer = read_layer(new, str(target))
    except PresetError:
        return False  # TOML allows no table of this form here
    below = user_preset_files()
    below = below[below.index(target) + 1 :] if target in below else below
    layers = [layer, *(read_layer(path, str(path)) for path in below), builtin_layer()]
    if preset_in(layers, preset.kind, name).parameters != preset.parameters:
        return False
    return _others(layer.tables, preset.kind, name) == _others(before, preset.kind, name)


def _others(tables: Tables, kind: str, name: str) -> dict[tuple[str, str], dict[str, Any]]:
    every = {(k, n): values for k, named in tables.items() for n, values in named.items()}
    return {key: values for key, values in every.items() if key != (kind, name)}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Says of what the system refuses that the file is as it was."""
    try:
        yield
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # RuntimeError: a circle of links; ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise PresetError(
            f"{path} cannot be written: {reason}.", hint="It is as it was; check the folder, its permissions and room."
        ) from error
