"""Requests and replies as bytes. Of what decoders send, which meet files of unknown origin, nothing is unpickled."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from fastinfer.errors import ImageDecodeError
from fastinfer.images.prepared import EngineImage, Pixels, PreparedImage

__all__ = [
    "DecoderLostError",
    "Request",
    "read_ready",
    "read_reply",
    "read_request",
    "write_failure",
    "write_image",
    "write_ready",
    "write_request",
]

#: Bytes of the name, bytes of the file.
_REQUEST = struct.Struct("<IQ")
#: Bytes of the head, which is JSON, and of the image's numbers.
_REPLY = struct.Struct("<IQ")
_MOST_HEAD_BYTES = 1 << 20
_READY = b"ready\n"


class DecoderLostError(Exception):
    """The other side ended, or sent what it never sends."""


@dataclass(frozen=True, slots=True)
class Request:
    """An image to decode: a file's bytes, and how errors call it."""

    data: bytes
    name: str


def write_ready(stream: IO[bytes]) -> None:
    """Say that requests can come."""
    stream.write(_READY)
    stream.flush()


def read_ready(stream: IO[bytes]) -> None:
    """Wait until requests can be sent.

    Raises:
        DecoderLostError: the other side ended, or said something else.
    """
    if (said := _exactly(stream, len(_READY))) != _READY:
        raise DecoderLostError(f"it said {bytes(said)!r} where it should say that it is ready")


def write_request(stream: IO[bytes], request: Request) -> None:
    """Send a request."""
    name = request.name.encode(errors="replace")
    stream.write(_REQUEST.pack(len(name), len(request.data)))
    stream.write(name)
    stream.write(request.data)
    stream.flush()


def read_request(stream: IO[bytes]) -> Request | None:
    """The next request, or None where the other side has closed the stream."""
    head = stream.read(_REQUEST.size)
    if len(head) < _REQUEST.size:
        return None
    name_bytes, data_bytes = _REQUEST.unpack(head)
    name, data = stream.read(name_bytes), stream.read(data_bytes)
    return Request(data, name.decode()) if len(data) == data_bytes else None


def write_image(stream: IO[bytes], image: EngineImage) -> None:
    """Send an image."""
    if isinstance(image, PreparedImage):
        _write(stream, {"shape": image.data.shape, "tokens": image.tokens, "grid": image.grid}, image.data.tobytes())
    else:
        _write(stream, {"shape": image.shape}, image.tobytes())


def write_failure(stream: IO[bytes], error: ImageDecodeError) -> None:
    """Send why an image could not be decoded."""
    cause = None if error.__cause__ is None else f"{type(error.__cause__).__name__}: {error.__cause__}"
    _write(stream, {"message": error.message, "hint": error.hint, "cause": cause}, b"")


def _write(stream: IO[bytes], head: dict[str, Any], numbers: bytes) -> None:
    encoded = json.dumps(head).encode()
    stream.write(_REPLY.pack(len(encoded), len(numbers)))
    stream.write(encoded)
    stream.write(numbers)
    stream.flush()


def read_reply(stream: IO[bytes], most_bytes: int) -> EngineImage | ImageDecodeError:
    """The image, or why it could not be decoded; that error's ``__cause__`` says what Pillow raised, if it did.

    Args:
        stream: a buffered reader.
        most_bytes: the most that an image's numbers may take.

    Raises:
        DecoderLostError: the other side ended, or this is no reply.
    """
    head_bytes, number_bytes = _REPLY.unpack(_exactly(stream, _REPLY.size))
    if head_bytes > _MOST_HEAD_BYTES or number_bytes > most_bytes:
        raise DecoderLostError(f"it claims an image of {number_bytes} bytes")
    encoded, numbers = _exactly(stream, head_bytes), _exactly(stream, number_bytes)
    try:
        return _reply(json.loads(encoded), numbers)
    except (ValueError, KeyError, TypeError) as error:
        raise DecoderLostError(f"its reply makes no sense: {error}") from error


def _reply(head: dict[str, Any], numbers: bytearray) -> EngineImage | ImageDecodeError:
    if "message" in head:
        error = ImageDecodeError(str(head["message"]), hint=head["hint"])
        if head["cause"] is not None:
            error.__cause__ = OSError(f"in the decoding process: {head['cause']}")
        return error
    shape = tuple(int(side) for side in head["shape"])
    data: Any = np.frombuffer(numbers, np.uint16 if "tokens" in head else np.uint8).reshape(shape)
    if data.shape != shape:
        raise ValueError(f"{len(numbers)} bytes of shape {shape}")
    if "tokens" not in head:
        pixels: Pixels = data
        return pixels
    grid = head["grid"]
    if grid is not None:
        time, height, width = (int(side) for side in grid)
        grid = (time, height, width)
    if head["tokens"] < 1:
        raise ValueError(f"an image of {head['tokens']} tokens")
    return PreparedImage(data, int(head["tokens"]), grid)


def _exactly(stream: IO[bytes], count: int) -> bytearray:
    taken = bytearray(count)
    if stream.readinto(taken) < count:  # type: ignore[attr-defined]  # a buffered reader has it
        raise DecoderLostError("it ended")
    return taken
