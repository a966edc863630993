"""What the user names on the command line, read: images, folders of images, stdin, labels."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import typer

from fastinfer.cli import output

__all__ = ["STDIN", "Image", "find_images", "read_labels", "read_text"]

STDIN = "-"


class Image(NamedTuple):
    """An image and the name it goes by: its path as given, or ``-``."""

    name: str
    source: str | bytes


def find_images(paths: Sequence[str]) -> list[Image]:
    """The images that the arguments name, in their order; those of a folder sorted.

    Raises:
        typer.BadParameter: there are none, a folder cannot be listed, or stdin cannot be an image.
    """
    if paths.count(STDIN) > 1:
        raise typer.BadParameter("stdin holds one image: give - once.")
    images: list[Image] = []
    empty: list[str] = []
    for path in paths:
        if path == STDIN:
            images.append(Image(STDIN, _read_stdin()))
        elif os.path.isdir(path):  # noqa: PTH112  Path("") would be the working directory
            found = _images_below(path)
            if not found:
                empty.append(output.clean(path))
            images += [Image(name, name) for name in found]
        else:
            images.append(Image(path, path))
    if not images:
        raise typer.BadParameter(f"no images in {', '.join(empty)}.")
    for folder in empty:
        output.note(f"warning: no images in {folder}.")
    return images


def read_labels(listed: Iterable[str] | None, file: str | None) -> list[str] | None:
    """The labels of ``--labels`` or ``--labels-file``; None where neither is given.

    Raises:
        typer.BadParameter: both are given, the file cannot be read, or there are no labels in them.
    """
    if listed and file is not None:
        raise typer.BadParameter("give --labels or --labels-file, not both.")
    if file is not None:
        labels, where = _stripped(read_text(file, "labels file").split("\n")), f"the labels file {file}"
    elif listed:
        labels, where = _stripped(",".join(listed).split(",")), "--labels"
    else:
        return None
    if not labels:
        raise typer.BadParameter(f"no labels in {where}.")
    return labels


def read_text(file: str, what: str) -> str:
    """The text of a file in UTF-8, with or without the byte order mark that some editors write.

    Args:
        file: its path.
        what: what the error calls it.

    Raises:
        typer.BadParameter: it cannot be read.
    """
    try:
        return Path(file).read_text("utf-8-sig")
    except OSError as error:
        raise typer.BadParameter(f"cannot read the {what} {file}: {error.strerror or error}.") from error
    except ValueError as error:
        raise typer.BadParameter(f"cannot read the {what} {file}: it is not UTF-8 text.") from error


def _stripped(labels: Iterable[str]) -> list[str]:
    return [label.strip() for label in labels if label.strip()]


def _read_stdin() -> bytes:
    if sys.stdin.isatty():
        raise typer.BadParameter("- reads an image from stdin, which is a terminal: pipe an image into it.")
    return sys.stdin.buffer.read()


def _images_below(folder: str) -> list[str]:
    from fastinfer.images.folder import images_below

    try:
        return [str(path) for path in images_below(folder)]
    except OSError as error:
        raise typer.BadParameter(f"cannot list the folder {error.filename}: {error.strerror}.") from error
