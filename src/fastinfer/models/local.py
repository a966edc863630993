"""Models named by the path of a file or a folder."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

from fastinfer.errors import ModelLoadError, ModelNotFoundError
from fastinfer.models.filenames import choose_projector, is_gguf, models, parts
from fastinfer.models.model import GgufModel, checked_model

__all__ = ["existing_path", "model_at", "no_such_path"]

_SHOWN: Final = 5


def existing_path(name: str) -> Path | None:
    """The absolute path that the name stands for, ``~`` expanded, or None where nothing is there."""
    try:
        path = Path(name).expanduser().absolute()
        path.lstat()
    except PermissionError:
        return path
    except (OSError, RuntimeError, ValueError):
        return None
    return path


def model_at(path: Path) -> GgufModel:
    """The model at a path: a file, any part of a split model, or a folder with one model in it.

    Raises:
        ModelNotFoundError: the folder has no model, or several.
        ModelLoadError: a file is damaged, of the wrong kind, or cannot be read; or a part of the model is missing.
    """
    folder = path.parent
    try:
        is_folder = path.is_dir()
        folder = path if is_folder else folder
        names = sorted(entry.name for entry in folder.iterdir() if is_gguf(entry.name))
    except OSError as error:
        raise ModelLoadError(
            f"{folder}: cannot be read: {error.strerror or error}.", hint="Check the folder's permissions."
        ) from error
    model = _only_model(folder, names) if is_folder else path.name
    files = parts(model)
    if missing := [name for name in files if name != path.name and name not in names]:
        raise ModelLoadError(
            f"{folder / model}: {len(missing)} of the model's {len(files)} parts are missing: {_some(missing)}.",
            hint="Copy all parts into the folder.",
        )
    projector = choose_projector(files[0], names)
    return checked_model(
        str(folder / files[0]),
        [folder / name for name in files],
        None if projector is None else folder / projector,
        revision=None,
        source="path",
    )


def no_such_path(name: str) -> ModelNotFoundError:
    """The error for a name that is neither a path that exists nor a name on the hub."""
    message = f"Model {name!r}: there is no such file or folder."
    before, _, revision = name.rpartition("@")
    if before and existing_path(before):
        return ModelNotFoundError(message, hint=f"A path has no revision: leave '@{revision}' out.")
    try:
        path = Path(name).expanduser().absolute()
        names = [entry.name for entry in path.parent.iterdir()]
    except (OSError, RuntimeError, ValueError):
        return ModelNotFoundError(message, hint="The folder it would be in is not there either: check the path.")
    nearest = difflib.get_close_matches(path.name, names, n=_SHOWN, cutoff=0.5)
    nearest += [entry for entry in sorted(names) if is_gguf(entry) and entry not in nearest]
    there = f"In {path.parent} there is {_some(nearest)}." if nearest else f"{path.parent} has no .gguf file."
    return ModelNotFoundError(message, hint=f"{there} A model on the hub is named org/repo or org/repo:QUANT.")


def _only_model(folder: Path, names: list[str]) -> str:
    found = models(names)
    if not found:
        raise ModelNotFoundError(
            f"{folder}: the folder has no model in GGUF format.",
            hint="Name a .gguf file, or a folder that holds one; a folder goes before a hub's repository of its name.",
        )
    if len(found) > 1:
        raise ModelNotFoundError(
            f"{folder}: the folder has {len(found)} models: {_some(found)}.", hint="Name one of the files."
        )
    return found[0]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
