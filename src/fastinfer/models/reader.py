"""Reading little-endian values from the front of a file, never past its end and never without a limit."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

from fastinfer.errors import ModelLoadError

__all__ = ["HeaderReader", "damaged"]

_CHUNK: Final = 1 << 18  # bytes read at once
_MAX_HEADER: Final = 1 << 30  # bytes; real headers end within some ten MiB
_MAX_KEPT: Final = 1 << 26  # bytes of text kept from one header
_MAX_LISTED: Final = 1 << 23  # strings in all lists of one header; the largest vocabularies have below 2^20
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


def damaged(path: Path, what: str) -> ModelLoadError:
    """The error for a file that is no sound GGUF file."""
    return ModelLoadError(f"{path}: not a usable GGUF file: {what}.", hint="Fetch or copy the file again.")


class HeaderReader:
    """A position in a file that only moves forward.

    The file is read in chunks and not mapped into memory, so that a file cut short by another program while it is
    read gives an error and not a signal.

    Args:
        file: the file, opened unbuffered, at its beginning.
        path: its path, for errors.
        size: its length in bytes.
    """

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self._file = file
        self._buffer = b""
        self._at = 0  # place in the buffer
        self._base = 0  # place of the buffer in the file
        self._kept = 0
        self._listed = 0

    @property
    def position(self) -> int:
        """Bytes from the beginning of the file."""
        return self._base + self._at

    def take(self, count: int, what: str) -> bytes:
        """The next bytes.

        Raises:
            ModelLoadError: there are fewer.
        """
        self._require(count, what)
        taken = self._buffer[self._at : self._at + count]
        self._at += count
        return taken

    def skip(self, count: int, what: str) -> None:
        """Leave out bytes without reading them.

        Raises:
            ModelLoadError: there are fewer.
        """
        self._check_end(self.position + count, what)
        self._at += count
        if self._at > len(self._buffer):
            self._base, self._at, self._buffer = self.position, 0, b""

    def u32(self, what: str) -> int:
        """The next unsigned 32-bit number."""
        number: int = _U32.unpack(self.take(4, what))[0]
        return number

    def u64(self, what: str) -> int:
        """The next unsigned 64-bit number."""
        number: int = _U64.unpack(self.take(8, what))[0]
        return number

    def text(self, limit: int, what: str) -> bytes | None:
        """The next string, or None where it is longer than ``limit`` bytes and was skipped.

        Raises:
            ModelLoadError: the file ends before the string does, or the strings kept so far are too many.
        """
        length = self.u64(what)
        if length > limit:
            self.skip(length, what)
            return None
        self._kept += length
        if self._kept > _MAX_KEPT:
            raise damaged(self.path, f"the names and texts in its header take over {_MAX_KEPT} bytes")
        return self.take(length, what)

    def skip_texts(self, count: int, what: str) -> None:
        """Leave out strings that follow each other.

        Raises:
            ModelLoadError: the file ends before they do, or the strings skipped so far are too many.
        """
        # Each string is at least its length, so a count that the file cannot hold is seen before the loop.
        self._check_end(self.position + 8 * count, what)
        self._listed += count
        if self._listed > _MAX_LISTED:
            raise damaged(self.path, f"the lists in its header have over {_MAX_LISTED} strings")
        buffer, at, length_at = self._buffer, self._at, _U64.unpack_from
        for _ in range(count):
            if at + 8 > len(buffer):
                self._at = at
                self._require(8, what)
                buffer, at = self._buffer, self._at
            at += 8 + length_at(buffer, at)[0]
            if at > len(buffer):
                self.skip(at - self._at, what)
                buffer, at = self._buffer, self._at
        self._at = at

    def _require(self, count: int, what: str) -> None:
        """Have the next bytes in the buffer."""
        held = len(self._buffer) - self._at
        if held >= count:
            return
        self._check_end(self.position + count, what)
        self._base, self._buffer, self._at = self.position, self._buffer[self._at :], 0
        self._file.seek(self._base + held)
        pieces = [self._buffer]
        wanted = max(count - held, _CHUNK)
        while wanted > 0 and (piece := self._file.read(wanted)):
            pieces.append(piece)
            wanted -= len(piece)
        self._buffer = b"".join(pieces)
        if len(self._buffer) < count:
            raise damaged(self.path, f"it was cut short while {what} was read")

    def _check_end(self, end: int, what: str) -> None:
        if end > self.size:
            raise damaged(self.path, f"the file ends at byte {self.size}, within {what}")
        if end > _MAX_HEADER:
            raise damaged(self.path, f"its header takes over {_MAX_HEADER} bytes, up to {what}")
