"""What goes through the socket between an engine's process and its parent: JSON, with bytes beside it.

Nothing is unpickled of what a child sends: it may have read a damaged file, and its memory may be in any state.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import orjson

__all__ = ["DamagedStreamError", "Message", "MessageReader", "encode"]

#: A message: a JSON object, and bytes.
Message = tuple[dict[str, Any], bytes]

_HEAD: Final = struct.Struct("<II")
#: Bytes of the longest message that makes sense: a prompt of millions of tokens.
_MOST: Final = 1 << 28


class DamagedStreamError(Exception):
    """What came cannot be a message."""


def encode(body: dict[str, Any], blob: bytes = b"") -> bytes:
    """A message as bytes."""
    data = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join((_HEAD.pack(len(data), len(blob)), data, blob))


class MessageReader:
    """Puts messages together as their bytes come in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Messages that are complete with these bytes.

        Raises:
            DamagedStreamError: they make no sense.
        """
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _HEAD.size:
            body_bytes, blob_bytes = _HEAD.unpack_from(buffer, at)
            if body_bytes + blob_bytes > _MOST:
                raise DamagedStreamError(f"a message of {body_bytes + blob_bytes} bytes")
            start = at + _HEAD.size
            middle, end = start + body_bytes, start + body_bytes + blob_bytes
            if len(buffer) < end:
                break
            try:
                body = orjson.loads(bytes(buffer[start:middle]))
            except orjson.JSONDecodeError as error:
                raise DamagedStreamError(f"no JSON: {error}") from error
            if not isinstance(body, dict):
                raise DamagedStreamError("no JSON object")
            yield body, bytes(buffer[middle:end])
            at = end
        del buffer[:at]
