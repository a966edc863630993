"""Files without end out of a few: standard library only, and a few microseconds each.

A JPEG file holds quantised frequencies and the table to multiply them with. Another table makes another picture of the
same entropy-coded data, so that decoding costs the same, and no cache that knows pictures by their content answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

#: Of the luminance table, in zigzag order: the lowest frequencies, which survive when a decoder reduces the size to a
#: quarter.
_ENTRIES = (1, 2, 4)
_VALUES = 11
MOST_VARIANTS = _VALUES ** len(_ENTRIES)


def table_start(jpeg: bytes) -> int:
    """Where the 64 numbers of the first quantisation table begin.

    Raises:
        ValueError: the file has none of 8 bits before its image data.
    """
    place = 2
    while place + 4 <= len(jpeg) and jpeg[place] == 0xFF and jpeg[place + 1] != 0xDA:
        if jpeg[place + 1] == 0xDB and jpeg[place + 4] < 0x10:
            return place + 5
        place += 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
    raise ValueError("no 8-bit quantisation table before the image data")


def variant(jpeg: bytes, number: int) -> bytes:
    """The picture's variant of that number, 0 (the picture itself) to ``MOST_VARIANTS`` - 1."""
    if not 0 <= number < MOST_VARIANTS:
        raise ValueError(f"variant {number} is not in 0 to {MOST_VARIANTS - 1}")
    changed = bytearray(jpeg)
    start = table_start(jpeg)
    for entry in _ENTRIES:
        number, step = divmod(number, _VALUES)
        changed[start + entry] = min(255, changed[start + entry] + step)
    return bytes(changed)


def stream(images: Sequence[bytes], count: int, first: int = 0) -> Iterator[bytes]:
    """``count`` different files: the images' variants of number ``first``, then those of the next number, and so on."""
    for place in range(count):
        rounds, image = divmod(place, len(images))
        yield variant(images[image], first + rounds)
