"""The images in a folder, by the names of its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NoReturn

__all__ = ["IMAGE_SUFFIXES", "images_below"]

#: Endings of the formats that are read by default. A file that is named itself may be called anything.
IMAGE_SUFFIXES: Final = frozenset(
    (
        *(".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".ico", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    )
)


def images_below(folder: str | os.PathLike[str]) -> list[Path]:
    """Every file that is called an image at any depth, sorted folder by folder.

    Hidden files and folders are editors' and file managers' own, and skipped.

    Args:
        folder: where to look.

    Raises:
        OSError: a folder cannot be listed.
    """
    found = []
    for where, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(where, name) for name in files if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(found, key=lambda path: path.parts)


def _unreadable(error: OSError) -> NoReturn:
    raise error
