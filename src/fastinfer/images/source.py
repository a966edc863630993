"""What a caller may hand in as an image: names for error messages, and the bytes behind paths and data URLs."""

from __future__ import annotations

import base64
import functools
import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union
from urllib.parse import unquote_to_bytes

from PIL import Image

from fastinfer.errors import ImageDecodeError

from .formats import sniff

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["ACCEPTED", "ImageSource", "SourceName", "describe_source", "is_array", "read_bytes", "read_file"]

# A Union, not `|`: the numpy part is a forward reference, so that numpy need not be imported for it.
ImageSource: TypeAlias = Union[
    str, os.PathLike[str], bytes, bytearray, memoryview, Image.Image, "npt.NDArray[np.generic]"
]
"""What :func:`fastinfer.images.load_image` reads: a path, a base64 ``data:`` URL, an encoded file's bytes, a Pillow
image, or a numpy array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."""

ACCEPTED = "a path (str or Path), a base64 data: URL, bytes, a PIL image, or a numpy array HxW, HxWx3 or HxWx4"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MAX_NAME = 80
#: Bytes of a file that are read before its format is known.
_AT_ONCE = 1 << 20


def is_array(source: object) -> bool:
    """Whether `source` is a numpy array; numpy is not imported for the question."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(source, numpy.ndarray)


def describe_source(source: object) -> str:
    """A short name of `source` for messages: ``photo.jpg``, ``<bytes, 1,204 bytes>``, ``<numpy (480, 640, 3) uint8>``.

    Any object gets a name, also one that is no image source; a path is shown by its last part. Nothing is read.
    """
    if isinstance(source, str) and source[:5].lower() == "data:":
        return f"<data URL, {len(source):,} characters>"
    if isinstance(source, str) and _URL.match(source):
        return _shortened(source)
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        text = path if isinstance(path, str) else os.fsdecode(path)
        return _shortened(Path(text).name or text) if text else "<empty path>"
    if isinstance(source, (bytes, bytearray)):
        return f"<{type(source).__name__}, {len(source):,} bytes>"
    if isinstance(source, memoryview):
        return "<memoryview>" if _is_released(source) else f"<memoryview, {source.nbytes:,} bytes>"
    if isinstance(source, Image.Image):
        file = getattr(source, "filename", "")
        name = f"{_shortened(Path(file).name)}, " if isinstance(file, str) and file else ""
        return f"<PIL image {name}{source.width}x{source.height} {source.mode}>"
    if is_array(source):
        array: Any = source
        return f"<numpy {array.shape} {_type_name(array.dtype)}>"
    return f"<{type(source).__name__}>"


# numpy makes the name of a type anew each time, which takes longer than all the rest of a description.
_type_name = functools.lru_cache(maxsize=64)(str)


class SourceName:
    """:func:`describe_source` of an image, made only where an error shows it.

    Args:
        source: what the caller passed.
    """

    __slots__ = ("_source",)

    def __init__(self, source: object) -> None:
        self._source = source

    def __str__(self) -> str:
        return describe_source(self._source)


def _is_released(view: memoryview) -> bool:
    try:
        return view.nbytes < 0
    except ValueError:
        return True


def _shortened(text: str) -> str:
    # Keeps a file name's ending, and keeps control characters out of logs.
    shown = text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= _MAX_NAME else f"{shown[:50]}...{shown[-27:]}"


def read_bytes(source: object, name: object) -> bytes:
    """The encoded bytes behind `source`: a path, a data URL, or bytes themselves.

    Args:
        source: what the caller passed.
        name: how errors call it; its ``str()`` is asked for by them alone.

    Raises:
        ImageDecodeError: it cannot be read, or is of a type that is no image source.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, (bytearray, memoryview)):
        try:
            return bytes(source)
        except ValueError as error:
            raise ImageDecodeError(f"Cannot read {name}: {error}.", hint="Keep the memoryview open.") from error
    if isinstance(source, str):
        if source[:5].lower() == "data:":
            return _data_url_bytes(source, name)
        if _URL.match(source):
            raise ImageDecodeError(
                f"Cannot read {name}: URLs are not opened.",
                hint="Download the image first and pass its bytes or its path.",
            )
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if isinstance(path, str):
            return read_file(path, name)
    hint = "For an open file, pass its .read() result." if hasattr(source, "read") else None
    kind = type(source)
    label = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    raise ImageDecodeError(f"Cannot read an image from {label}; pass {ACCEPTED}.", hint=hint)


def _data_url_bytes(url: str, name: object) -> bytes:
    header, comma, payload = url.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise ImageDecodeError(
            f"Cannot read {name}: it is not base64.", hint="Use the form data:image/png;base64,<data>."
        )
    try:
        return base64.b64decode(b"".join(unquote_to_bytes(payload).split()), validate=True)
    except ValueError as error:
        raise ImageDecodeError(
            f"Cannot read {name}: its base64 is damaged ({error}).", hint="Encode the file again."
        ) from error


def read_file(path: str, name: object, status: os.stat_result | None = None) -> bytes:
    """The bytes of a file, or its beginning where that is of no image format.

    Args:
        path: the file.
        name: how errors call it; its ``str()`` is asked for by them alone.
        status: what ``os.stat`` just said of it; None asks.

    Raises:
        ImageDecodeError: it cannot be read, or is no regular file.
    """
    if not path:
        raise ImageDecodeError("Cannot read an image from an empty path.", hint=f"Pass {ACCEPTED}.")
    try:
        if status is None:
            status = os.stat(path)  # noqa: PTH116  a Path takes as long as the call
        if stat.S_ISDIR(status.st_mode):
            raise ImageDecodeError(f"Cannot read {name}: it is a directory ({path}).", hint="Pass the files in it.")
        if not stat.S_ISREG(status.st_mode):
            # A pipe or a device could block for ever.
            raise ImageDecodeError(f"Cannot read {name}: it is not a regular file ({path}).", hint="Pass its bytes.")
        return _content(path, status.st_size)
    except FileNotFoundError as error:
        relative = not Path(path).is_absolute()
        hint = f"Check the path; relative ones start at {Path.cwd()}." if relative else "Check the path."
        raise ImageDecodeError(f"Cannot read {name}: there is no such file ({path}).", hint=hint) from error
    except PermissionError as error:
        raise ImageDecodeError(f"Cannot read {name}: no permission ({path}).", hint="Make it readable.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise ImageDecodeError(f"Cannot read {name}: {error}.", hint="Check the path.") from error


def _content(path: str, size: int) -> bytes:
    # Opened, read and closed: Python's own files make further system calls, each a turn at the interpreter's lock.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = os.read(descriptor, max(64, min(size, _AT_ONCE)))
        # A large file that is no image is not worth reading to its end.
        if len(data) == size or not sniff(data):
            return data
        return b"".join([data, *iter(lambda: os.read(descriptor, _AT_ONCE), b"")])
    finally:
        os.close(descriptor)
