"""A batch file as a job reads it: once to know its requests by name, once to answer them."""

from __future__ import annotations

import os
from array import array
from collections.abc import Generator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fastinfer.errors import MessageError

from .lines import BatchLine, read_lines

if TYPE_CHECKING:
    from fastinfer.jobs.output import Shard

__all__ = ["Batch"]


class Batch:
    """The lines of a batch file that belong to a job. Of each its number and ``custom_id`` are kept in memory.

    Args:
        path: the file.
        shard: the lines of this part alone, chosen by their ``custom_id``.
        limit: the first of them, at most so many.

    Raises:
        MessageError: the file cannot be read, or there is nothing in it.
    """

    def __init__(self, path: str | os.PathLike[str], *, shard: Shard | None = None, limit: int | None = None) -> None:
        self.path = Path(path)
        self._shard, self._limit = shard, limit
        self._numbers = array("Q")
        self._ids: list[str | None] = []
        for line in self._read():
            self._numbers.append(line.number)
            self._ids.append(line.custom_id)
        if not self._ids and shard is None:
            raise MessageError(f"There are no requests in {path}.", hint="Write a JSON object for each, one a line.")

    def __len__(self) -> int:
        """How many lines there are, those that are wrong included."""
        return len(self._ids)

    def name(self, place: int) -> tuple[int, str | None]:
        """Number and ``custom_id`` of the line at this place, from 0."""
        return self._numbers[place], self._ids[place]

    def lines(self) -> Generator[BatchLine, None, None]:
        """The lines, read from the file as they are asked for.

        Raises:
            MessageError: the file cannot be read, or its lines are no longer those that it had.
        """
        with closing(self._read()) as lines:
            for custom_id in self._ids:
                line = next(lines, None)
                if line is None or line.custom_id != custom_id:
                    raise MessageError(f"{self.path} was changed while it was read.", hint="Run the job again.")
                yield line

    def _read(self) -> Generator[BatchLine, None, None]:
        shard = self._shard
        try:
            with self.path.open("rb") as file:
                lines = read_lines(file)
                if shard is not None:
                    lines = (line for line in lines if shard.has((line.custom_id or str(line.number)).encode()))
                yield from islice(lines, self._limit)
        except OSError as error:
            raise MessageError(
                f"The requests in {self.path} cannot be read: {error.strerror or error}.",
                hint="Give the path of a file with a request a line.",
            ) from error
