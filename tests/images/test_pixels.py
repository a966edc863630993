"""The right colours, the right way up, at the right size."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from fastinfer.images import load_image, to_rgb_array

ORIENTATION = 0x0112


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source, **options):
    return to_rgb_array(load_image(source, **options)).tolist()


def png(width, height, depth, colour, rows, key=b""):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    transparency = chunk(b"tRNS", key) if key else b""
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + transparency + chunk(b"IDAT", data) + chunk(b"IEND", b"")


WHITE, BLACK = [255] * 3, [0] * 3


def test_transparency_is_laid_on_white():
    rgba = Image.new("RGBA", (3, 1))
    for x, colour in enumerate([(10, 20, 30, 0), (0, 0, 0, 128), (10, 20, 30, 255)]):
        rgba.putpixel((x, 0), colour)
    assert pixels(rgba) == [[WHITE, [127] * 3, [10, 20, 30]]]
    assert pixels(encode(rgba, "PNG")) == pixels(rgba)
    assert pixels(encode(rgba, "WEBP", lossless=True)) == pixels(rgba)
    grey = Image.new("LA", (1, 1), (0, 128))
    assert pixels(grey) == [[[127] * 3]]
    assert pixels(grey.convert("La")) == [[[127] * 3]]
    assert pixels(rgba.convert("RGBa"))[0][2] == [10, 20, 30]
    assert pixels(Image.new("PA", (1, 1), (0, 0))) == [[WHITE]]


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff"], ids=["one entry", "bytes"])
def test_transparent_palette_entries_become_white(transparency):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for x in range(3):
        image.putpixel((x, 0), x)
    expected = [[[255, 0, 0], WHITE, [0, 0, 255]]]
    assert pixels(encode(image, "PNG", transparency=transparency)) == expected
    image.info["transparency"] = transparency
    assert pixels(image) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(2, 1, 8, 0, [b"\x05\x06"], b"\0\x05"), [[WHITE, [6] * 3]]),
        (png(4, 1, 2, 0, [b"\x1b"], b"\0\x01"), [[BLACK, WHITE, [170] * 3, WHITE]]),
        (png(2, 1, 1, 0, [b"\x40"], b"\0\x00"), [[WHITE, WHITE]]),
        (png(2, 1, 8, 2, [b"\1\2\3\1\2\4"], b"\0\1\0\2\0\3"), [[WHITE, [1, 2, 4]]]),
        (png(2, 1, 16, 0, [b"\x40\x00\x40\x01"], b"\x40\x00"), [[WHITE, [64] * 3]]),
        (png(2, 1, 16, 2, [b"\x40\0\0\0\0\0\0\0\0\0\0\0"], b"\x40\0\0\0\0\0"), [[WHITE, BLACK]]),
    ],
    ids=["8-bit grey", "2-bit grey", "1-bit", "RGB", "16-bit grey", "16-bit RGB"],
)
def test_a_png_colour_key_becomes_white(data, expected):
    assert pixels(data) == expected


def test_sixteen_bit_samples_are_scaled_and_not_clipped():
    levels = np.array([[0, 255, 32768, 65535]], np.uint16)
    expected = [[[v] * 3 for v in (0, 1, 128, 255)]]
    image = Image.fromarray(levels)
    assert pixels(image) == expected
    assert pixels(encode(image, "PNG")) == expected
    assert pixels(encode(image, "TIFF")) == expected
    assert pixels(Image.fromarray(levels.astype(np.int32))) == expected
    assert pixels(Image.frombytes("I;16B", (4, 1), levels.astype(">u2").tobytes())) == expected
    assert pixels(b"P5 4 1 65535\n" + levels.astype(">u2").tobytes()) == expected


def test_a_tiff_whose_white_is_zero_is_turned_round():
    image = Image.fromarray(np.array([[0, 65535]], np.uint16))
    assert pixels(encode(image, "TIFF", tiffinfo={262: 0})) == [[WHITE, BLACK]]


def test_float_samples_are_scaled_by_their_range():
    def floats(*values):
        return pixels(Image.fromarray(np.array([values], np.float32)))

    assert floats(0.0, 0.5, 1.0) == [[BLACK, [128] * 3, WHITE]]
    assert floats(0.0, 100.4, 255.0) == [[BLACK, [100] * 3, WHITE]]
    assert floats(0.0, 65535.0) == [[BLACK, WHITE]]


def test_black_and_white_and_palettes_and_other_colour_spaces():
    assert pixels(Image.fromarray(np.array([[False, True]]))) == [[BLACK, WHITE]]
    assert pixels(encode(Image.new("1", (1, 1), 1), "PNG")) == [[WHITE]]
    assert pixels(Image.new("HSV", (1, 1), (0, 255, 255))) == [[[255, 0, 0]]]
    assert pixels(Image.new("YCbCr", (1, 1), (128, 128, 128))) == [[[128] * 3]]
    assert pixels(Image.new("RGBX", (1, 1), (1, 2, 3, 0))) == [[[1, 2, 3]]]
    assert min(pixels(Image.new("LAB", (1, 1), (255, 128, 128)))[0][0]) >= 254
    red = pixels(encode(Image.new("LAB", (1, 1), (136, 208, 195)), "TIFF"))[0][0]
    assert red[0] > 240
    assert max(red[1:]) < 30


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red, green, blue = pixels(encode(image, kind))[8][8]
    assert red > 245
    assert green < 10
    assert blue < 10
    assert pixels(Image.new("CMYK", (1, 1), (0, 0, 0, 255))) == [[BLACK]]


def test_adobe_ycck_jpegs_keep_their_colours():
    # Pillow writes Adobe's CMYK, inverted, with transform 0. These samples are red in YCCK (transform 2), inverted.
    data = bytearray(encode(Image.new("CMYK", (16, 16), (76, 84, 254, 0)), "JPEG", quality=100))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    red, green, blue = pixels(bytes(data))[8][8]
    assert red > 250
    assert green < 5
    assert blue < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_once(kind, orientation):
    corners = np.zeros((32, 48, 3), np.uint8)
    corners[:16, :16], corners[:16, 32:], corners[16:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode(Image.fromarray(corners), kind, exif=exif, **({"quality": 95} if kind in {"JPEG", "WEBP"} else {}))
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    upright = load_image(data)
    assert (to_rgb_array(upright) == expected).all()
    assert (to_rgb_array(load_image(upright)) == expected).all()
    with Image.open(io.BytesIO(data)) as opened:
        assert (to_rgb_array(load_image(opened)) == expected).all()


def test_pillow_input_with_exif_is_turned_and_the_original_is_not():
    image = Image.new("RGB", (4, 2))
    image.getexif()[ORIENTATION] = 6
    assert load_image(image).size == (2, 4)
    assert image.size == (4, 2)
    assert image.getexif()[ORIENTATION] == 6


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})])
def test_the_first_frame_is_read(kind, options):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert pixels(data)[0][0] == [255, 0, 0]


def test_the_current_frame_of_a_pillow_image_is_read():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    with Image.open(io.BytesIO(encode(frames[0], "TIFF", save_all=True, append_images=frames[1:]))) as image:
        image.seek(1)
        assert pixels(image)[0][0] == [0, 0, 255]
        image.seek(0)
        assert pixels(image)[0][0] == [255, 0, 0]


def test_the_largest_picture_of_an_icon_is_read():
    image = Image.new("RGBA", (32, 32), (10, 20, 30, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    for bitmap_format in ("png", "bmp"):
        read = load_image(encode(image, "ICO", sizes=[(16, 16), (32, 32)], bitmap_format=bitmap_format))
        assert read.size == (32, 32)
        assert read.getpixel((5, 5)) == (10, 20, 30)
        assert read.getpixel((0, 0)) == (255, 255, 255)


def test_size_gives_exactly_that_size_with_bicubic():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    expected = image.resize((20, 30), Image.Resampling.BICUBIC).tobytes()
    assert load_image(image, size=(20, 30)).tobytes() == expected
    assert load_image(encode(image, "PNG"), size=(20, 30)).tobytes() == expected
    # Below 4 times the target a JPEG is decoded in full.
    data = encode(image, "JPEG")
    assert load_image(data, size=(20, 30)).tobytes() == load_image(load_image(data), size=(20, 30)).tobytes()
    assert load_image(image, size=(140, 7)).size == (140, 7)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(orientation):
    y, x = np.mgrid[0:512, 0:768]
    smooth = np.dstack([x / 3, y / 2, (np.sin(x / 20) * np.cos(y / 15) + 1) * 127]).astype(np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode(Image.fromarray(smooth), "JPEG", quality=95, exif=exif)
    quick = to_rgb_array(load_image(data, size=(64, 48))).astype(int)
    full = to_rgb_array(load_image(data).resize((64, 48), Image.Resampling.BICUBIC)).astype(int)
    assert quick.shape == (48, 64, 3)
    assert abs(quick - full).mean() < 1.0
    assert abs(quick - full).max() <= 8


def test_the_array_is_contiguous_writable_and_new():
    image = Image.new("RGB", (4, 3), (1, 2, 3))
    array = to_rgb_array(image)
    assert array.shape == (3, 4, 3)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert array.flags.writeable
    array[:] = 0
    assert image.getpixel((0, 0)) == (1, 2, 3)
    assert to_rgb_array(Image.new("L", (1, 1), 7)).tolist() == [[[7] * 3]]
