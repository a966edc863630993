"""The images in a folder, by the names of its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["IMAGE_SUFFIXES", "image_names", "images_below"]

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
    return [Path(folder, name) for name in image_names(folder)]


def image_names(folder: str | os.PathLike[str]) -> Iterator[str]:
    """The paths in the folder of what :func:`images_below` finds, as text: for many files that takes far less memory.

    Args:
        folder: where to look; links to folders are not followed.

    Raises:
        OSError: a folder cannot be listed.
    """
    root = os.fspath(folder)
    # Of each folder on the way down, the beginning of the paths in it and what is left of its names.
    open_folders = [("", iter(_listed(root)))]
    while open_folders:
        before, names = open_folders[-1]
        for name, is_folder in names:
            if is_folder:
                inside = os.path.join(before, name)  # noqa: PTH118
                open_folders.append((inside, iter(_listed(os.path.join(root, inside)))))  # noqa: PTH118
                break
            yield os.path.join(before, name)  # noqa: PTH118
        else:
            open_folders.pop()


def _listed(folder: str) -> list[tuple[str, bool]]:
    """The images and folders in a folder by name, sorted, and which of them are folders."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                if not entry.is_symlink():
                    found.append((entry.name, True))
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
                found.append((entry.name, False))
    return sorted(found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to nothing that can be looked at
        return False
