"""Windows icons: a container of several pictures, of which the largest is wanted."""

from __future__ import annotations

import struct

__all__ = ["largest_picture"]

_ENTRY = struct.Struct("<BBBBHHII")


def largest_picture(data: bytes) -> bytes:
    """The largest picture of an icon (of those, the deepest): PNG bytes, or an icon that holds this one alone.

    Pillow's icon reader trusts what the embedded picture says of its own size, and reads it without the checks that
    other formats get; so the parts are checked here first.

    Raises:
        ValueError: the icon is empty, an entry points outside the data, or its picture has another size than declared.
    """
    (count,) = struct.unpack_from("<H", data, 4)
    entries = [_ENTRY.unpack_from(data, 6 + _ENTRY.size * i) for i in range(count)]
    if not entries:
        raise ValueError("the icon holds no picture")
    entry = max(entries, key=lambda e: ((e[0] or 256) * (e[1] or 256), e[5]))
    width, height, length, offset = entry[0] or 256, entry[1] or 256, entry[6], entry[7]
    if offset + length > len(data):
        raise ValueError("the icon is truncated: its picture lies beyond the end of the data")
    picture = data[offset : offset + length]
    if picture.startswith(b"\x89PNG"):
        return picture
    header_size, bitmap_width, bitmap_height = struct.unpack_from("<Iii", picture)
    # The bitmap is twice as high as the picture: colours above, the transparency mask below.
    if header_size != 40 or (bitmap_width, bitmap_height) != (width, 2 * height):
        raise ValueError(
            f"the icon declares {width}x{height} but holds a bitmap of {bitmap_width}x{bitmap_height} (mask included)"
        )
    header = struct.pack("<HHH", 0, 1, 1)
    return header + _ENTRY.pack(*entry[:6], length, len(header) + _ENTRY.size) + picture
