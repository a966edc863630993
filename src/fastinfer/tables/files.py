"""A file written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable

from fastinfer.errors import FastInferError
from fastinfer.replacement import Replacement

__all__ = ["write_lines"]


def write_lines(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    """Write a text file of these lines in UTF-8, each ended by a line feed.

    The file appears under its name when all of it is on the disk; until then, and if anything fails, what was there
    before stays as it was. A link stays a link, and an existing file's permissions are kept.

    Raises:
        FastInferError: the file cannot be written.
    """
    try:
        with Replacement(path) as new:
            new.stream.writelines(f"{line}\n".encode() for line in lines)
            new.commit()
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links; a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise FastInferError(
            f"{path} cannot be written: {reason}.", hint="Check the folder, its permissions and the room on the disk."
        ) from error
