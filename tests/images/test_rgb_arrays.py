"""Images as arrays: by whichever way they are read, they are those of ``load_image``."""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from fastinfer.errors import ImageDecodeError
from fastinfer.images import load_image, load_rgb_array, to_rgb_array

ORIENTATION = 0x0112


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PHOTO = noise(40, 56)
PIXELS = np.asarray(PHOTO)


def turned_jpeg(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(noise(200, 300), "JPEG", exif=exif)


@pytest.mark.parametrize("size", [None, (56, 40), (20, 30), (112, 7)])
@pytest.mark.parametrize(
    "source",
    [
        PIXELS,
        PIXELS[::-1, ::2],
        np.asfortranarray(PIXELS),
        PIXELS[:, :, 0],
        PIXELS[:, :, :1],
        np.dstack([PIXELS, PIXELS[:, :, 0]]),
        PIXELS[:, :, 0].astype(np.uint16) * 257,
        PIXELS[:, :, 0] > 127,
        PHOTO,
        PHOTO.convert("LA"),
        encode(PHOTO, "PNG"),
        encode(PHOTO.quantize(16), "PNG", transparency=3),
        turned_jpeg(1),
        turned_jpeg(6),
        encode(PHOTO, "WEBP"),
    ],
    ids=lambda source: type(source).__name__,
)
def test_an_array_is_the_image_that_load_image_gives(source, size):
    array = load_rgb_array(source, size=size)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert (array == to_rgb_array(load_image(source, size=size))).all()


@pytest.mark.parametrize("size", [None, (56, 40), (28, 20)])
def test_an_array_shares_no_memory_with_its_source(size):
    source = PIXELS.copy()
    array = load_rgb_array(source, size=size)
    kept = array.copy()
    source[:] = 0
    assert (array == kept).all()
    assert not np.shares_memory(array, source)


def test_arrays_are_refused_as_images_are():
    for load in (load_image, load_rgb_array):
        with pytest.raises(ImageDecodeError, match=re.escape("<numpy (40, 56, 3) uint8>: 56x40 is 2,240 pixels")):
            load(PIXELS, max_pixels=2239)
        with pytest.raises(ImageDecodeError, match="no pixel"):
            load(PIXELS[:0])
        with pytest.raises(ImageDecodeError, match="float pixels"):
            load(PIXELS / 255)
        with pytest.raises(ImageDecodeError, match="Channels come last"):
            load(PIXELS.transpose(2, 0, 1))
        with pytest.raises(ValueError, match="size must be"):
            load(PIXELS, size=(0, 40))
        with pytest.raises(ValueError, match="max_pixels"):
            load(PIXELS, max_pixels=0)
        with pytest.raises(ValueError, match="unknown image formats"):
            load(PIXELS, formats=["EPS"])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_larger_than_pillows_pieces_is_decoded_as_pillow_does(progressive):
    data = encode(noise(400, 500), "JPEG", quality=95, progressive=progressive)
    assert len(data) > 2 * 65536
    with Image.open(io.BytesIO(data)) as image:
        assert load_image(data).tobytes() == image.tobytes()
    with pytest.raises(ImageDecodeError, match="truncated"):
        load_image(data[:-3000])


@pytest.mark.parametrize("size", [None, (300, 200), (24, 16)])
def test_a_file_becomes_a_plain_image_without_metadata(size):
    image = load_image(turned_jpeg(6), size=size)
    assert type(image) is Image.Image
    assert image.info == {}
    assert dict(image.getexif()) == {}


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_jpegs_orientation_is_found_where_pillow_finds_it(orientation):
    plain = encode(noise(16, 32), "JPEG")
    note = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><a tiff:Orientation="%d"/></x:xmpmeta>' % orientation
    noted = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(note) + 2) + note + plain[2:]
    for data in (turned_jpeg(orientation), noted, plain):
        with Image.open(io.BytesIO(data)) as image:
            assert load_image(data).tobytes() == ImageOps.exif_transpose(image).tobytes()


def test_a_file_is_read_whole_however_large_it_is(tmp_path):
    for side in (1, 20, 700):
        image = noise(side, side)
        (tmp_path / "image.bmp").write_bytes(encode(image, "BMP"))
        assert load_image(tmp_path / "image.bmp").tobytes() == image.tobytes()
    assert (tmp_path / "image.bmp").stat().st_size > 1 << 20


def test_a_large_file_that_is_no_image_is_refused_by_its_beginning(tmp_path):
    (tmp_path / "zeros.jpg").write_bytes(bytes(3 << 20))
    with pytest.raises(ImageDecodeError, match=r"zeros\.jpg: its content is no image of a known format"):
        load_image(tmp_path / "zeros.jpg")
