"""The files of a job: listed as short strings, read ahead by a few threads, known by the hash of their bytes."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastinfer.errors import FastInferError, ImageDecodeError
from fastinfer.images.folder import image_names
from fastinfer.images.source import SourceName, describe_source, read_file
from fastinfer.interrupts import Deferral, answer_of
from fastinfer.jobs.output import Shard
from fastinfer.jobs.work import FileState, Known
from fastinfer.tables.rows import readable

__all__ = ["Files", "Reading", "list_files", "read_ahead"]

#: Threads that read ahead.
_READERS: Final = 4
#: Files that each reads at a time: every hand-over between threads waits for the interpreter's lock, which others keep
#: busy. With a model of 1B parameters on an H200, jobs were 3 % faster than with 16. Of large files only so many that
#: all threads together hold about this many bytes.
_TOGETHER: Final = 64
_BYTES_AHEAD: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Files:
    """Files in the order of a job's rows.

    Attributes:
        folder: they are in; empty where their paths stand for themselves.
        names: their paths in the folder, or their paths, with the separators of this system.
        follow_links: read what is outside of the folder too, where a link in it leads there.
    """

    folder: str
    names: list[str]
    follow_links: bool = False

    def path(self, place: int) -> str:
        """Where the file at this place is."""
        return os.path.join(self.folder, self.names[place])  # noqa: PTH118  of 100,000 files, a Path takes longer

    def shown(self, place: int) -> str:
        """What rows call it: with ``/`` between folders, and with an escape for what is no text."""
        return readable(_posix(self.names[place]))


@dataclass(frozen=True, slots=True)
class Reading:
    """A file that was looked at.

    Attributes:
        state: what it was; None where it could not be read.
        data: its bytes; None where they were not read, as their hash is known by the file's size and time of change.
        error: why it could not be read.
    """

    state: FileState | None
    data: bytes | None = None
    error: ImageDecodeError | None = None


def list_files(
    source: str | os.PathLike[str] | Iterable[Any],
    shard: Shard | None,
    limit: int | None,
    *,
    follow_links: bool = False,
) -> Files:
    """The files of a job.

    Args:
        source: a folder, whose images are taken at any depth in the order of their names, hidden ones left out; or the
            paths of files, whose order is kept.
        shard: those of it alone.
        limit: the first of them, at most so many.
        follow_links: see :class:`Files`.

    Raises:
        FastInferError: there is no such folder, no image in it, or something that is no path among the paths.
    """
    if isinstance(source, (str, os.PathLike)):
        folder = os.fspath(source)
        if not Path(folder).is_dir():
            raise ImageDecodeError(
                f"There is no folder {folder}.", hint="Give a folder of images, or a list of their paths."
            )
        names: Iterable[str] = image_names(folder)
    else:
        folder, names = "", map(_checked, source)
    try:
        if shard is not None:
            names = (name for name in names if shard.has(os.fsencode(_posix(name))))
        found = Files(folder, list(islice(names, limit)), follow_links)
    except OSError as error:
        raise ImageDecodeError(
            f"The folder {error.filename} cannot be listed: {error.strerror or error}.", hint="Make it readable."
        ) from error
    if not found.names and shard is None:
        raise ImageDecodeError(
            f"There are no images in {folder}." if folder else "There are no paths in the list.",
            hint="Give a folder that has images, at any depth.",
        )
    return found


def read_ahead(files: Files, known: Known) -> Generator[Reading, None, None]:
    """Every file in order, read by a few threads, a few files ahead of the one that is asked for.

    A file whose size and time of change are those that ``known`` has is not read.
    """
    root = os.path.realpath(files.folder) if files.folder and not files.follow_links else None
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="fastinfer-read")
    reading: deque[tuple[list[_Asked], Future[list[Reading]]]] = deque()
    places = iter(range(len(files.names)))
    count = size = 0
    try:
        while True:
            together = min(_TOGETHER, _BYTES_AHEAD * count // (_READERS * size)) if size else 1
            while len(reading) < _READERS and (some := list(islice(places, max(1, together)))):
                asked = [_Asked.of(files.path(place), known) for place in some]
                with Deferral():
                    reading.append((asked, pool.submit(_read_all, asked, root)))
            if not reading:
                return
            asked, future = reading.popleft()
            results = answer_of(future)
            for file, result in zip(asked, results, strict=True):
                count, size = count + 1, size + (0 if result.state is None else result.state.size)
                if result.state is not None and result.state != file.before:
                    known.remember(file.key, result.state)
                yield result
    finally:
        with Deferral():
            pool.shutdown(wait=False, cancel_futures=True)
        pool.shutdown(wait=True)


class _Asked(NamedTuple):
    """A file that is to be looked at: its path, the journal's name of it, and what it was if it has a result."""

    path: str
    key: bytes
    before: FileState | None

    @classmethod
    def of(cls, path: str, known: Known) -> _Asked:
        key = os.fsencode(os.path.abspath(path))  # noqa: PTH100  as above
        return cls(path, key, known.file(key))


def _read_all(asked: Iterable[_Asked], root: str | None) -> list[Reading]:
    return [_read(file.path, file.before, root) for file in asked]


def _read(path: str, before: FileState | None, root: str | None) -> Reading:
    if root is not None and _leads_out(path, root):
        return Reading(None, error=_refused(path))
    status, size, modified = None, -1, -1  # of what is not there; whatever is there the next time differs from it
    with suppress(OSError, ValueError):  # which reading it explains
        # Looked at before it is read: a file that changes meanwhile differs from this the next time.
        status = os.stat(path)  # noqa: PTH116  as above
        size, modified = status.st_size, status.st_mtime_ns
    if before is not None and (size, modified) == (before.size, before.modified):
        return Reading(before)
    try:
        data = read_file(path, SourceName(Path(path)), status)
    except ImageDecodeError as error:
        return Reading(None, error=error)
    return Reading(FileState(size, modified, hashlib.blake2b(data, digest_size=16).digest()), data)


def _leads_out(path: str, root: str) -> bool:
    """Whether the file is a link to one that is not in the folder; links to folders are not listed."""
    if not os.path.islink(path):  # noqa: PTH114  as above
        return False
    return not os.path.realpath(path).startswith(os.path.join(root, ""))  # noqa: PTH118


def _refused(path: str) -> ImageDecodeError:
    return ImageDecodeError(
        f"Cannot read {SourceName(Path(path))}: it is a link to a file outside of the folder ({path}).",
        hint="Say follow_links=True (--follow-links) if you trust the folder, or give a list of paths.",
    )


def _checked(path: object) -> str:
    if not isinstance(path, (str, os.PathLike)) or not isinstance(text := os.fspath(path), str):
        raise FastInferError(
            f"A job reads files, and {describe_source(path)} is none.",
            hint="Give their paths; classify_many takes images that are in memory.",
        )
    return text


def _posix(name: str) -> str:
    return name if os.sep == "/" else name.replace(os.sep, "/")
