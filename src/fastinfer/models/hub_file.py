"""The beginning of a file on the hub: as much as is read of it is fetched, and laid into a stand-in."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from fastinfer.errors import ModelLoadError, ModelNotFoundError
from fastinfer.models.hub_name import HubName, Listing
from fastinfer.models.hub_requests import bytes_from
from fastinfer.models.stand_ins import writing

__all__ = ["HubFile", "hub_file"]

_RANGE: Final = 1 << 22  # bytes asked for at once
_MAX_FETCHED: Final = 1 << 27  # bytes; headers with the largest vocabularies take some ten MiB


class HubFile(FileIO):
    """A stand-in for a file on the hub: as long, and with its beginning as far as it was read; the rest is a hole.

    Args:
        path: where the stand-in is put.
        size: length of the file in bytes.
        pieces: the file's bytes from its beginning on, in pieces, at least ``size`` of them.

    Attributes:
        path: as given.
        size: as given.

    Raises:
        ModelLoadError: the stand-in cannot be written.
    """

    def __init__(self, path: Path, size: int, pieces: Iterator[bytes]) -> None:
        self.path = path
        self.size = size
        self._pieces = pieces
        self._fetched = 0
        with writing(path):
            super().__init__(path, "w+")
            try:
                self.truncate(size)
            except OSError:
                self.close()
                raise

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, at most ``size``, or all where that is negative or None; fetched with all before them.

        Raises:
            ModelLoadError: they end past the first 128 MiB, or cannot be written.
            Exception: what huggingface_hub and its HTTP library raise where they cannot be fetched.
        """
        at = self.tell()
        left = max(self.size - at, 0)
        count = left if size is None or size < 0 else min(size, left)
        self._fetch(at + count)
        self.seek(at)
        return super().read(count) or b""

    def _fetch(self, end: int) -> None:
        if end > _MAX_FETCHED:
            raise ModelLoadError(
                f"{self.path}: its header takes over {_MAX_FETCHED} bytes.", hint="Fetch the file, and name its path."
            )
        while self._fetched < end:
            piece = next(self._pieces)[: self.size - self._fetched]
            with writing(self.path):
                self.seek(self._fetched)
                while piece:
                    written = self.write(piece)
                    piece = piece[written:]
            self._fetched = self.tell()


@contextmanager
def hub_file(wanted: HubName, listing: Listing, name: str, folder: Path) -> Iterator[HubFile]:
    """Open a file on the hub, of which as much is fetched as is read in the block; the stand-in stays.

    Args:
        wanted: the model's name.
        listing: the files of its repository, with their lengths.
        name: the file's path in the repository.
        folder: where the stand-in is put, under the file's own name.

    Raises:
        ModelNotFoundError: the hub does not say how long the file is.
        ModelLoadError: the stand-in cannot be written.
    """
    size = listing.files[name].size
    if size is None:
        raise ModelNotFoundError(
            f"Model {wanted}: the hub does not say how long {name!r} is.", hint="Check HF_ENDPOINT, or fetch the model."
        )
    pieces = _pieces(wanted, listing.commit or wanted.revision, name, size)
    with closing(pieces), HubFile(folder / name.rpartition("/")[2], size, pieces) as file:
        yield file


def _pieces(wanted: HubName, revision: str | None, name: str, size: int) -> Generator[bytes, None, None]:
    """The file's bytes, fetched range by range while more are asked for; all at once where the server has no ranges."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(wanted.repo, name, revision=revision)
    at = 0
    while at < size:
        begin = at
        for piece in bytes_from(url, at, min(at + _RANGE, size)):
            at += len(piece)
            yield piece
        if at == begin:
            raise ConnectionError(f"{name} ends at byte {at} of {size}")
