"""Pictures that are none, and pictures that are only strange: the one fails alone, the other is classified."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fastinfer.errors import ImageDecodeError


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


NO_IMAGES = {
    "empty": b"",
    "garbage": bytes(range(256)) * 20,
    "text": b"not an image at all",
    "bomb": bomb(),
    "FITS": b"SIMPLE  =                    T" + b" " * 3000,
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "None": None,
    "number": 42,
    "missing file": "no/such/file.png",
    "empty path": "",
    "NUL in a path": "a\0b.png",
    "URL": "https://example.org/cat.png",
    "data URL": "data:image/png;base64,AAAA",
    "float array": np.zeros((8, 8, 3)),
    "five channels": np.zeros((8, 8, 5), np.uint8),
    "empty array": np.zeros((0, 8, 3), np.uint8),
    "dictionary": {},
    "list": [b"bytes"],
}


@pytest.fixture(scope="module")
def siblings(shared, pictures):
    return [shared.classify(image) for image in pictures]


def names_the_item_and_says_what_to_do(error):
    assert type(error) is ImageDecodeError
    assert len(error.message) > 15
    assert error.hint or "pass a path" in error.message


@pytest.mark.parametrize("bad", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_an_image_error(shared, bad):
    with pytest.raises(ImageDecodeError) as error:
        shared.classify(bad)
    names_the_item_and_says_what_to_do(error.value)


@pytest.mark.parametrize("bad", NO_IMAGES.values(), ids=NO_IMAGES)
async def test_in_the_middle_of_a_batch_it_fails_alone(shared, pictures, siblings, same, bad):
    images = [*pictures[:3], bad, *pictures[3:]]
    waited = [r async for r in shared.aclassify_many(images, errors="return")]
    for results in (list(shared.classify_many(images, errors="return")), waited):
        names_the_item_and_says_what_to_do(results[3].error)
        assert results[3].source
        for result, expected in zip(results[:3] + results[4:], siblings, strict=True):
            same(result, expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_fails_alone(shared, pictures, siblings, same, tmp_path, kind):
    path = tmp_path / f"cut.{kind.lower()}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, kind)
    path.write_bytes(path.read_bytes()[:-2000])
    before, cut, after = shared.classify_many([pictures[0], path, pictures[1]], errors="return")
    names_the_item_and_says_what_to_do(cut.error)
    assert path.name in str(cut.error)
    same(before, siblings[0])
    same(after, siblings[1])


def strange_pictures():
    base = Image.new("RGB", (40, 30), "red")
    wide = Image.fromarray(np.full((20, 20), 40_000, np.uint16))
    return {
        "1x1": Image.new("RGB", (1, 1), "red"),
        "1x20000": Image.new("RGB", (1, 20_000), "red"),
        "20000x1": Image.new("RGB", (20_000, 1), "red"),
        "CMYK": base.convert("CMYK"),
        "16-bit": wide,
        "palette": base.quantize(4),
        "RGBA": base.convert("RGBA"),
        "bilevel": base.convert("1"),
        "large": Image.new("RGB", (5000, 4000), "red"),
        "grey array": np.zeros((9, 9), np.uint8),
        "transposed array": np.asarray(base).transpose(1, 0, 2),
        "negative strides": np.asarray(base)[::-1, ::-1],
        "array with alpha": np.zeros((9, 9, 4), np.uint8),
    }


@pytest.mark.parametrize("picture", strange_pictures().values(), ids=strange_pictures())
def test_a_strange_picture_is_classified_beside_its_siblings(shared, pictures, siblings, same, picture):
    one, strange, two = shared.classify_many([pictures[0], picture, pictures[1]])
    assert strange.ok
    assert sum(strange.probabilities.values()) == pytest.approx(1)
    same(strange, shared.classify(picture))
    same(one, siblings[0])
    same(two, siblings[1])


def test_the_content_decides_and_not_the_name_of_the_file(shared, pictures, png, siblings, same, tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(png(pictures[0]))
    same(shared.classify(path), siblings[0])


def test_a_picture_turned_by_its_exif_tag_is_turned_back(shared, draw, same, tmp_path):
    upright = draw("triangle", "blue", "white", 112)
    exif = Image.Exif()
    exif[0x0112] = 3
    upright.rotate(180).save(tmp_path / "turned.png", exif=exif)
    same(shared.classify(tmp_path / "turned.png"), shared.classify(upright))


def test_of_an_animation_the_first_frame_is_classified(shared, pictures, same, tmp_path):
    path = tmp_path / "moving.png"
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    same(shared.classify(path), shared.classify(pictures[0]))


def test_the_limit_on_pixels_is_the_presets(fresh, pictures):
    classifier = fresh(max_pixels=1000, workers=1)
    with pytest.raises(ImageDecodeError, match="over the limit of 1,000"):
        classifier.classify(pictures[0])
    assert classifier.classify(pictures[0].resize((20, 20))).ok


def test_the_callers_picture_is_left_as_it_was(shared, pictures):
    array = np.asarray(pictures[0]).copy()
    kept = array.copy()
    shared.classify(array)
    assert (array == kept).all()
    assert pictures[0].size == (96, 96)
