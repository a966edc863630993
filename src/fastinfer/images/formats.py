"""Which format some bytes hold, judged by their content, and the one Pillow reader for it."""

from __future__ import annotations

import functools
import importlib
import re
import struct
from collections.abc import Iterable
from typing import cast

from PIL import ImageFile

__all__ = ["DEFAULT_FORMATS", "foreign_format", "normalise_formats", "reader", "sniff", "webp_size"]

DEFAULT_FORMATS: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "AVIF")
"""The formats read unless told otherwise. JPEG includes MPO (its first picture); AVIF needs a Pillow built with it."""

_SIGNATURES: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("WEBP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("BMP", re.compile(rb"BM")),
    ("TIFF", re.compile(rb"II[*+]\x00|MM\x00[*+]")),
    ("PPM", re.compile(rb"P[1-6][\s#]")),
    ("ICO", re.compile(rb"\x00\x00\x01\x00")),
    ("AVIF", re.compile(rb".{4}ftyp(?:avi[fs]|(?:mif1|msf1).{4}(?:.{4})*?avi[fs])", re.DOTALL)),
)

# Recognised only to say in an error what the bytes are.
_FOREIGN: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("HEIC", re.compile(rb".{4}ftyp(?:hei|hev|mif1|msf1)", re.DOTALL)),
    ("JPEG 2000", re.compile(rb"\x00\x00\x00\x0cjP|\xff\x4f\xff\x51")),
    ("JPEG XL", re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL")),
    ("PDF", re.compile(rb"%PDF")),
    ("EPS or PostScript", re.compile(rb"%!PS|\xc5\xd0\xd3\xc6")),
    ("FITS", re.compile(rb"SIMPLE  =")),
    ("Photoshop", re.compile(rb"8BPS")),
    ("SVG or other XML", re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:svg|\?xml)")),
    ("HTML", re.compile(rb"\s*<(?:!doctype html|html)", re.IGNORECASE)),
    ("video (MP4)", re.compile(rb".{4}ftyp", re.DOTALL)),
    ("ZIP", re.compile(rb"PK\x03\x04")),
    ("gzip", re.compile(rb"\x1f\x8b")),
)

# Readers are imported one by one and called directly. PIL.Image.open would import five more, would judge the size by
# Pillow's own MAX_IMAGE_PIXELS (a warning or an error that is not ours), and falls back to importing every plug-in.
_READERS = {
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "PPM": ("PIL.PpmImagePlugin", "PpmImageFile"),
    "ICO": ("PIL.IcoImagePlugin", "IcoImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
}

_ALIASES = {"JPG": "JPEG", "MPO": "JPEG", "TIF": "TIFF"}


def normalise_formats(formats: Iterable[str]) -> frozenset[str]:
    """The names in `formats`, upper case, aliases (JPG, MPO, TIF) resolved.

    Raises:
        ValueError: a name is not one that this library reads.
    """
    names = [formats] if isinstance(formats, str) else list(formats)
    known = frozenset(_ALIASES.get(name.upper(), name.upper()) for name in names)
    if unknown := sorted(known.difference(_READERS)):
        raise ValueError(f"unknown image formats {unknown}; those to choose from are {list(_READERS)}")
    return known


def sniff(head: bytes) -> str | None:
    """The format that `head`, the first 64 bytes or more, begins; None if it is none of those read here."""
    head = head[:64]
    for name, signature in _SIGNATURES:
        if signature.match(head):
            return name
    return None


def foreign_format(head: bytes) -> str | None:
    """A name for what `head` begins, if it is something known that is not read here."""
    return next((name for name, signature in _FOREIGN if signature.match(head[:64])), None)


@functools.cache
def reader(name: str) -> type[ImageFile.ImageFile]:
    """Pillow's reader for the format `name`, imported when first asked for.

    Raises:
        NotImplementedError: this Pillow comes without it.
    """
    module, cls = _READERS[name]
    try:
        return cast("type[ImageFile.ImageFile]", getattr(importlib.import_module(module), cls))
    except ImportError as error:
        raise NotImplementedError(f"this Pillow cannot read {name}") from error


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in a WebP header, None where the header is damaged.

    Pillow's reader allocates the whole canvas when it opens the file, so the size must be known before.
    """
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", body[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return None
