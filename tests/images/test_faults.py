"""Bytes that are no sound image: always ImageDecodeError, never a padded picture, never another exception."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from examples import examples
from fastinfer.errors import ImageDecodeError
from fastinfer.images import DEFAULT_FORMATS, load_image


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_or_none(data):
    """The pixels, or None after an ImageDecodeError; anything else passes through and fails the test."""
    try:
        return load_image(data, max_pixels=1_000_000).tobytes()
    except ImageDecodeError:
        return None


def png_with_header(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\0" * 100, "no image of a known format"),
        (b"not an image at all", "no image of a known format"),
        (b"SIMPLE  =                    T" + b" " * 50, "FITS"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "EPS"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"BM", "BMP"),
        (b"\0\0\1\0\0\0", "ICO"),
        (b"RIFF\0\0\0\0WEBP", "WEBP"),
        (png_with_header(0, 5), "PNG"),
    ],
)
def test_what_is_no_image_is_an_error_that_names_the_item(data, words, truncation_flag):
    with pytest.raises(ImageDecodeError, match=words) as error:
        load_image(data)
    assert f"<bytes, {len(data):,} bytes>" in str(error.value)
    assert error.value.hint


def test_every_cut_gives_an_error_or_the_whole_picture(sample, truncation_flag):
    whole = load_image(sample).tobytes()
    cuts = sorted({*range(0, len(sample), 41), *range(max(0, len(sample) - 30), len(sample))})
    read = {cut: pixels_or_none(sample[:cut]) for cut in cuts}
    padded = [cut for cut, pixels in read.items() if pixels not in {None, whole}]
    assert not padded
    assert list(read.values()).count(None) >= len(cuts) // 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_errors_whatever_pillows_switch_says(kind, share, truncation_flag):
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encode(image, kind)
    with pytest.raises(ImageDecodeError):
        load_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_truncated_pillow_image_not_yet_loaded_is_an_error_too(kind, truncation_flag):
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encode(image, kind)
    with Image.open(io.BytesIO(data[: len(data) * 3 // 4])) as lazy, pytest.raises(ImageDecodeError, match="truncated"):
        load_image(lazy)


def test_pillows_switch_is_left_alone(truncation_flag):
    load_image(encode(Image.new("RGB", (4, 4)), "JPEG"))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is truncation_flag


def test_damaged_pixel_data_is_an_error_under_either_switch(truncation_flag):
    data = bytearray(encode(Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageDecodeError):
        load_image(bytes(data))


def test_too_many_pixels_are_refused_before_decoding():
    bomb = png_with_header(60_000, 60_000)
    with pytest.raises(ImageDecodeError, match=r"60000x60000 is 3,600,000,000 pixels, over the limit of 64,000,000"):
        load_image(bomb)
    with pytest.raises(ImageDecodeError, match=r"max_pixels=100"):
        load_image(np.zeros((10, 10), np.uint8), max_pixels=99)
    with pytest.raises(ImageDecodeError, match=r"max_pixels=100"):
        load_image(Image.new("L", (10, 10)), max_pixels=99)
    assert load_image(np.zeros((10, 10), np.uint8), max_pixels=100).size == (10, 10)


def test_a_webp_canvas_is_judged_before_it_is_allocated():
    body = bytes(4) + (16_000).to_bytes(3, "little") + (16_000).to_bytes(3, "little")
    data = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + body
    with pytest.raises(ImageDecodeError, match="16001x16001"):
        load_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "PPM"])
def test_our_limit_decides_and_not_pillows(kind, monkeypatch):
    data = encode(Image.new("RGB", (40, 30)), kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert load_image(data).size == (40, 30)


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_pillows_limit_does_not_warn_and_where_it_refuses_the_error_names_it(kind, monkeypatch):
    data = encode(Image.new("RGB", (40, 30)), kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert load_image(data).size == (40, 30)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    try:
        assert load_image(data).size == (40, 30)  # older versions of Pillow
    except ImageDecodeError as error:
        assert "PIL.Image.MAX_IMAGE_PIXELS" in str(error)  # noqa: PT017


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_extreme_shapes_are_read(size):
    assert load_image(encode(Image.new("RGB", size), "PNG")).size == size
    assert load_image(encode(Image.new("RGB", size), "JPEG"), size=(8, 8)).size == (8, 8)


def test_the_content_decides_and_not_the_name(tmp_path):
    (tmp_path / "photo.png").write_bytes(encode(Image.new("RGB", (4, 4), "white"), "JPEG"))
    assert load_image(tmp_path / "photo.png").getpixel((0, 0)) == (255, 255, 255)
    (tmp_path / "photo.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    with pytest.raises(ImageDecodeError, match=r"photo\.jpg: its content is EPS"):
        load_image(tmp_path / "photo.jpg")


def test_formats_can_be_narrowed():
    data = encode(Image.new("RGB", (4, 4)), "GIF")
    with pytest.raises(ImageDecodeError, match="GIF, which is not among the formats allowed"):
        load_image(data, formats=["jpg", "PNG"])
    assert load_image(data, formats=("gif",)).size == (4, 4)
    assert "EPS" not in DEFAULT_FORMATS
    with pytest.raises(ValueError, match="unknown image formats"):
        load_image(data, formats=["EPS"])


@pytest.mark.parametrize("options", [{"size": (0, 5)}, {"size": (5, -1)}, {"max_pixels": 0}])
def test_illegal_options_are_the_callers_error(options):
    with pytest.raises(ValueError, match="must be"):
        load_image(np.zeros((2, 2), np.uint8), **options)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.array([[-5, 10]], np.int32)),
        Image.fromarray(np.array([[70_000]], np.int32)),
        Image.fromarray(np.array([[float("nan")]], np.float32)),
        Image.fromarray(np.array([[-1.0]], np.float32)),
    ],
)
def test_samples_without_a_known_scale_are_refused(image):
    with pytest.raises(ImageDecodeError, match="samples lie from"):
        load_image(image)


def test_an_icon_whose_bitmap_is_larger_than_declared_is_refused():
    data = bytearray(encode(Image.new("RGB", (16, 16)), "ICO", sizes=[(16, 16)], bitmap_format="bmp"))
    struct.pack_into("<i", data, 22 + 4, 30_000)
    with pytest.raises(ImageDecodeError, match="declares 16x16"):
        load_image(bytes(data))


def test_pillows_warnings_stay_inside():
    good = encode(Image.new("RGB", (4, 4)), "TIFF")
    image = Image.new("RGB", (4, 4), "red")
    exif = Image.Exif()
    exif[0x0112] = 1
    exif[0x010F] = "a camera with a long name"
    damaged = encode(image, "JPEG", exif=exif.tobytes()[:-12])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        assert load_image(damaged).size == (4, 4)
        with pytest.raises(ImageDecodeError):
            load_image(good[: len(good) - 20])
        assert list(warnings.filters) == before
        with pytest.raises(UserWarning, match="ours"):
            warnings.warn("ours", stacklevel=1)


def test_other_threads_still_get_their_warnings():
    from fastinfer.images.quiet import pillow_warnings_ignored

    def warn_as_pillow():
        warnings.warn_explicit("odd tag", UserWarning, "TiffImagePlugin.py", 1, module="PIL.TiffImagePlugin")

    seen: list[BaseException] = []

    def elsewhere():
        try:
            warn_as_pillow()
        except UserWarning as warning:
            seen.append(warning)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pillow_warnings_ignored():
            warn_as_pillow()
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
    assert len(seen) == 1


def test_eight_threads_decode_a_mixture_as_one_does(samples):
    expected = {name: load_image(data).tobytes() for name, data in samples.items()}
    shared = Image.open(io.BytesIO(samples["png"]))
    work = [(name, data) for name, data in samples.items()] * 8

    def decode(item):
        name, data = item
        with pytest.raises(ImageDecodeError):
            load_image(data[: len(data) // 4])
        return load_image(data).tobytes() == expected[name] and load_image(shared).tobytes() == expected["png"]

    with shared, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(decode, work))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255), st.integers(0, 2)), min_size=1, max_size=8)
)
def test_mutated_bytes_decode_or_raise_our_error_only(samples, edits, truncation_flag):
    for data in samples.values():
        changed = bytearray(data)
        for place, value, action in edits:
            at = place % len(changed)
            if action == 0:
                changed[at] = value
            elif action == 1:
                changed.insert(at, value)
            elif len(changed) > 1:
                del changed[at]
        pixels_or_none(bytes(changed))
