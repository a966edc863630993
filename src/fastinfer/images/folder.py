"""The files in a folder that are to be read as images."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

__all__ = ["files_below"]


def files_below(folder: str | os.PathLike[str], suffixes: Collection[str]) -> list[Path]:
    """Every file with one of these endings at any depth, sorted folder by folder.

    Hidden files and folders are editors' and file managers' own, and skipped.

    Args:
        folder: where to look.
        suffixes: endings in lower case, with their dots; those of files count in any case.

    Raises:
        OSError: a folder cannot be listed.
    """
    found = []
    for where, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        wanted = (name for name in files if not name.startswith(".") and Path(name).suffix.lower() in suffixes)
        found += [Path(where, name) for name in wanted]
    return sorted(found, key=lambda path: path.parts)


def _unreadable(error: OSError) -> NoReturn:
    raise error
