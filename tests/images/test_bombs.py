"""Small files that stand for gigabytes: refused by what their header says, before anything of that size is there."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image, features

from fastinfer.errors import ImageDecodeError
from fastinfer.images import load_image

MEGA = 1 << 20


def png(width: int, height: int, *chunks: tuple[bytes, bytes], data: bytes | None = None, mode: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, mode, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(height * (1 + 3 * width)) if data is None else data))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*each) for each in chunks) + pixels + chunk(b"IEND", b"")


def tiff(width: int, height: int) -> bytes:
    entries = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (279, 1)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + struct.pack("<I", 0)


def gif(width: int, height: int) -> bytes:
    frame = b"," + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\2\2D\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + frame + b";"


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def icon(picture: bytes) -> bytes:
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(picture), 22) + picture


def webp(form: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBP" + form + struct.pack("<I", len(body)) + body


BY_HEADER = {
    "PNG": png(60_000, 60_000, data=b"\0"),
    "PNG of one row": png(2**31 - 1, 1, data=b"\0"),
    "GIF": gif(65_535, 65_535),
    "BMP": bmp(60_000, 60_000),
    "BMP upside down": bmp(60_000, -60_000),
    "TIFF": tiff(60_000, 60_000),
    "TIFF of 2^32 - 1": tiff(2**32 - 1, 2**32 - 1),
    "PPM": b"P6 60000 60000 255\n",
    "PPM with long numbers": b"P5 99999999999999999999 9 255\n",
    "ICO with a PNG": icon(png(60_000, 60_000, data=b"\0")),
    "WebP": webp(b"VP8X", bytes(4) + b"\xff\xff\xff\xff\xff\xff"),
    "WebP, lossless": webp(b"VP8L", b"\x2f" + struct.pack("<I", 0x0FFFFFFF) + bytes(9)),
    "JPEG": b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 65_500, 65_500) + b"\3\1\x22\0\2\x11\1\3\x11\1",
}


def avif() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "AVIF")
    data = bytearray(buffer.getvalue())
    at = data.index(b"ispe")
    data[at + 8 : at + 16] = struct.pack(">II", 60_000, 60_000)
    return bytes(data)


@pytest.mark.parametrize("data", BY_HEADER.values(), ids=BY_HEADER)
def test_a_header_of_too_many_pixels_is_enough_to_be_refused(data: bytes) -> None:
    assert len(data) < 300
    with pytest.raises(ImageDecodeError) as error:
        load_image(data)
    assert error.value.hint


def test_formats_that_are_not_read_are_refused_by_name() -> None:
    for data, name in ((b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"), (b"8BPS\0\1", "Photoshop"), (b"\xff\x0a\0", "XL")):
        with pytest.raises(ImageDecodeError, match=name):
            load_image(data)


def text_bombs() -> dict[str, bytes]:
    """Sound pictures of 2 x 2 pixels with a chunk of 200 MiB when it is unpacked."""
    packer = zlib.compressobj(1)
    large = b"".join(packer.compress(bytes(MEGA)) for _ in range(200)) + packer.flush()
    return {
        "zTXt": png(2, 2, (b"zTXt", b"a\0\0" + large)),
        "iTXt": png(2, 2, (b"iTXt", b"a\0\1\0\0\0" + large)),
        "iCCP": png(2, 2, (b"iCCP", b"a\0\0" + large)),
        "many zTXt": png(2, 2, *[(b"zTXt", b"a\0\0" + zlib.compress(bytes(MEGA - 1)))] * 200),
        "tEXt of 8 MB": png(2, 2, (b"tEXt", b"a\0" + bytes(8 * MEGA))),
    }


def frames() -> bytes:
    """An animation of 20,000 frames."""
    first, *_ = gif(64, 64).partition(b";")
    frame = first[first.index(b",") :]
    return first + frame * 20_000 + b";"


READING = """
import resource, sys, time
from pathlib import Path
from fastinfer.errors import ImageDecodeError
from fastinfer.images import load_image
import numpy
for file in sorted(Path(sys.argv[1]).iterdir()):
    try:
        load_image(file)  # numpy and Pillow's readers are loaded
    except ImageDecodeError:
        pass
    break
before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
for file in sorted(Path(sys.argv[1]).iterdir()):
    try:
        print(file.name, load_image(file.read_bytes()).size)
    except ImageDecodeError as error:
        print(file.name, "refused")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts kibibytes as Linux does")
def test_no_bomb_takes_memory_or_time(tmp_path: Any, run_python: Callable[..., Any]) -> None:
    bombs = {**BY_HEADER, **text_bombs(), "frames": frames()}
    if features.check("avif"):
        bombs["AVIF"] = avif()
    folder = tmp_path / "bombs"
    folder.mkdir()
    (folder / "0").write_bytes(png(2, 2))
    for name, data in bombs.items():
        (folder / name).write_bytes(data)
    done = run_python(READING, str(folder), timeout=60)
    assert done.returncode == 0, done.stderr
    *said, megabytes = done.stdout.splitlines()
    assert int(megabytes) < 150, done.stdout  # of the pictures that are read, and what Pillow keeps
    assert len(said) == len(bombs) + 1
    assert [line for line in said if not line.endswith("refused") and line[-7:] not in (" (2, 2)", "64, 64)")] == []
