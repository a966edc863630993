"""The names of a job's files, and how its output comes into place: whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from fastinfer.errors import FastInferError
from fastinfer.replacement import Replacement

__all__ = ["FORMATS", "Output", "Shard"]

#: The forms that an output may have, by the ending of its name.
FORMATS: Final = (".parquet", ".jsonl", ".csv")
_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts of a job, each for a process of its own.

    Attributes:
        number: which one, from 1.
        count: how many there are.
    """

    number: int
    count: int

    @classmethod
    def of(cls, shard: str | tuple[int, int]) -> Shard:
        """From ``"2/8"`` or ``(2, 8)``.

        Raises:
            FastInferError: it is neither, or there is no such part.
        """
        numbers: tuple[object, ...] | None = tuple(shard) if isinstance(shard, (tuple, list)) else None
        if isinstance(shard, str) and (found := re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", shard, re.ASCII)):
            numbers = int(found[1]), int(found[2])
        match numbers:
            case (int() as number, int() as count) if 1 <= number <= count:
                return cls(number, count)
        raise FastInferError(f"There is no shard {shard!r}.", hint='Write "2/8" for the second of eight.')

    def has(self, name: bytes) -> bool:
        """Whether the item of this name is in this part; new items move no others. By CRC-32 of the name."""
        return zlib.crc32(name) % self.count == self.number - 1


@dataclass(frozen=True, slots=True)
class Output:
    """The files of a job.

    Attributes:
        path: of the results.
        journal: what is kept between runs.
        ending: one of :data:`FORMATS`.
    """

    path: Path
    journal: Path
    ending: str

    @classmethod
    def of(cls, path: str | os.PathLike[str], shard: Shard | None, formats: Sequence[str] = FORMATS) -> Output:
        """The files of a job with this output.

        Args:
            path: the output.
            shard: its number goes into the names: ``results-00002-of-00008.csv``.
            formats: the endings that the output may have.

        Raises:
            FastInferError: the name has another ending, or no folder, or is that of a folder.
        """
        asked = Path(path)
        ending = asked.suffix.lower()
        if ending not in formats:
            raise FastInferError(
                f"The output {asked} does not end with a form that can be written.",
                hint=f"Let its name end with {' or '.join(formats)}.",
            )
        if shard is not None:
            asked = asked.with_name(f"{asked.stem}-{shard.number:05}-of-{shard.count:05}{asked.suffix}")
        if asked.is_dir():
            raise FastInferError(f"The output {asked} is a folder.", hint="Name a file.")
        if not asked.parent.is_dir():
            raise FastInferError(f"There is no folder {asked.parent} for the output.", hint="Create it first.")
        return cls(asked, asked.with_name(f"{asked.name}.journal"), ending)

    def digest(self) -> bytes | None:
        """The hash of the output that is there, 16 bytes; None where there is none.

        Raises:
            FastInferError: it cannot be read.
        """
        try:
            return _digest(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def replace(self, write: Callable[[BinaryIO], None], note: Callable[[bytes], None]) -> None:
        """Write the output, and put it in its place in one step once it is whole and on the disk.

        Until then it is a hidden file beside it; one that a killed run left behind is written over.

        Args:
            write: writes it into a file.
            note: told the hash of its bytes before it is put in its place.

        Raises:
            FastInferError: it cannot be written.
        """
        try:
            with Replacement(self.path, name=f".{self.path.name}.part") as new:
                write(new.stream)
                new.finish()
                note(_digest(new.part))
                new.commit()
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> FastInferError:
        return FastInferError(
            f"The output {self.path} cannot be written: {error.strerror or error}.",
            hint="Check that its folder may be written to, and that the disk has room.",
        )


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while piece := stream.read(_AT_ONCE):
            digest.update(piece)
    return digest.digest()
