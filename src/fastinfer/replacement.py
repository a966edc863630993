"""A file written whole or not at all: what was there stays until the new one is on the disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fastinfer.errors import FastInferError

__all__ = ["Replacement", "replace_file", "write_lines"]


class Replacement:
    """A hidden file beside the one whose place it takes with :meth:`commit`; without that, it is removed.

    A context manager. A link stays a link, and the permissions of a file that was there are kept.

    Args:
        path: the file to replace, or to make.
        name: of the hidden file. One that is there is written over, so that what a killed process left does not
            stay: for callers that see to it that nobody else is at it. None takes a name of its own.

    Attributes:
        target: the file that is meant, links followed.
        part: the hidden file.
        stream: to write into.

    Raises:
        OSError: it cannot be written.
        RuntimeError, ValueError: the path is a circle of links, or no path at all.
    """

    stream: BinaryIO

    def __init__(self, path: str | os.PathLike[str], *, name: str | None = None) -> None:
        self.target = Path(path).resolve()
        if self.target.exists() and not self.target.is_file():
            raise OSError(f"{path} is not a file that can be replaced")
        own = f".{self.target.name}.{os.urandom(4).hex()}"
        self.part = self.target.with_name(name or own)
        if name:
            self.part.unlink(missing_ok=True)  # a link of this name would have another file written over
        self.stream = self.part.open("xb")

    def __enter__(self) -> Replacement:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.stream.close()
        finally:
            self.part.unlink(missing_ok=True)

    def finish(self) -> None:
        """Have all that was written on the disk."""
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def commit(self) -> None:
        """Put it into its place."""
        self.finish()
        self.stream.close()
        if self.target.exists():
            self.part.chmod(stat.S_IMODE(self.target.stat().st_mode))
        self.part.replace(self.target)
        with suppress(OSError):  # not every system lets a folder be opened, or told to keep its names
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file of this content in the place of what was there.

    Raises:
        OSError, RuntimeError, ValueError: as :class:`Replacement`.
    """
    with Replacement(path) as new:
        new.stream.write(content)
        new.commit()


def write_lines(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    """Write a text file of these lines in UTF-8, each ended by a line feed, in the place of what was there.

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
