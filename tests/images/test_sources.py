"""What may be passed as an image, what is refused, and how errors name it."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastinfer.errors import ImageDecodeError
from fastinfer.images import describe_source, load_image, to_rgb_array

RED = Image.new("RGB", (3, 2), (255, 0, 0))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: folder / "red.png",
        lambda folder: str(folder / "red.png"),
        lambda folder: png(RED),
        lambda folder: bytearray(png(RED)),
        lambda folder: memoryview(png(RED)),
        lambda folder: "data:image/png;base64," + base64.b64encode(png(RED)).decode(),
        lambda folder: "DATA:;base64," + base64.b64encode(png(RED)).decode().replace("=", "%3D"),
        lambda folder: RED,
        lambda folder: np.asarray(RED),
        lambda folder: np.dstack([np.asarray(RED), np.full((2, 3), 255, np.uint8)]),
    ],
    ids=["Path", "str", "bytes", "bytearray", "memoryview", "data URL", "bare data URL", "PIL", "numpy", "numpy RGBA"],
)
def test_every_kind_of_source_gives_the_same_picture(make, tmp_path):
    (tmp_path / "red.png").write_bytes(png(RED))
    image = load_image(make(tmp_path))
    assert image.mode == "RGB"
    assert type(image) is Image.Image
    assert image.tobytes() == RED.tobytes()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0, 200]], np.uint8), [[0] * 3, [200] * 3]),
        (np.array([[[0], [200]]], np.uint8), [[0] * 3, [200] * 3]),
        (np.array([[0, 65535, 32768]], np.uint16), [[0] * 3, [255] * 3, [128] * 3]),
        (np.array([[0, 65535]], ">u2"), [[0] * 3, [255] * 3]),
        (np.array([[False, True]]), [[0] * 3, [255] * 3]),
        (np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8), [[255] * 3, [10, 20, 30]]),
        (np.zeros((1, 4, 3), np.uint8)[:, ::2], [[0] * 3, [0] * 3]),
    ],
    ids=["grey", "HxWx1", "uint16", "big-endian uint16", "bool", "RGBA", "strided"],
)
def test_arrays_are_read_by_shape_and_type(array, expected):
    assert to_rgb_array(load_image(array)).tolist() == [expected]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 2, 3)), "float pixels have no fixed scale.*255"),
        (np.zeros((3, 20, 20), np.uint8), "transpose"),
        (np.zeros((5, 2, 2, 3), np.uint8), "one image at a time"),
        (np.zeros((4,), np.uint8), "shape"),
        (np.zeros((2, 2, 2), np.uint8), "shape"),
        (np.zeros((0, 5, 3), np.uint8), "no pixel"),
        (np.zeros((2, 2), np.int64), "int64"),
        (np.zeros((2, 2, 3), np.uint16), "uint16 is not read in this shape"),
        (np.array([[None]]), "object"),
    ],
)
def test_arrays_that_are_no_image_are_refused_with_advice(array, words):
    with pytest.raises(ImageDecodeError, match=words):
        load_image(array)


@pytest.mark.parametrize("source", [None, 123, {}, [], 1.5, object(), io.BytesIO(png(RED))])
def test_other_types_are_refused_naming_those_accepted(source):
    with pytest.raises(ImageDecodeError, match=r"str or Path.*bytes.*PIL image.*numpy"):
        load_image(source)


def test_an_open_file_is_refused_with_the_way_out():
    with pytest.raises(ImageDecodeError, match=r"\.read\(\)"):
        load_image(io.BytesIO(png(RED)))


def test_a_path_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(ImageDecodeError, match=r"cat\.png: there is no such file") as missing:
        load_image(tmp_path / "cat.png")
    assert isinstance(missing.value.__cause__, FileNotFoundError)
    with pytest.raises(ImageDecodeError, match="is a directory"):
        load_image(tmp_path)
    with pytest.raises(ImageDecodeError, match="empty path"):
        load_image("")
    with pytest.raises(ImageDecodeError, match="null"):
        load_image("a\0b.png")
    with pytest.raises(ImageDecodeError):
        load_image("x" * 5000)


def test_a_file_without_permission_says_so(tmp_path, monkeypatch):
    file = tmp_path / "secret.png"
    file.write_bytes(png(RED))

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ImageDecodeError, match=r"secret\.png: no permission"):
        load_image(file)


@pytest.mark.parametrize("url", ["http://host/a.png", "HTTPS://host/a.png", "s3://bucket/a.png", "file:///a.png"])
def test_urls_are_not_opened(url):
    with pytest.raises(ImageDecodeError, match="Download"):
        load_image(url)


@pytest.mark.parametrize("url", ["data:image/png,abc", "data:image/png;base64", "data:;base64,@@@", "data:;base64,"])
def test_damaged_data_urls_are_refused(url):
    with pytest.raises(ImageDecodeError, match="data URL"):
        load_image(url)


def test_a_released_memoryview_is_refused():
    view = memoryview(png(RED))
    view.release()
    with pytest.raises(ImageDecodeError, match="memoryview"):
        load_image(view)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("folder/photo.jpg", "photo.jpg"),
        (Path("folder") / "photo.jpg", "photo.jpg"),
        (b"x" * 1204, "<bytes, 1,204 bytes>"),
        (bytearray(3), "<bytearray, 3 bytes>"),
        (memoryview(b"abc"), "<memoryview, 3 bytes>"),
        (np.zeros((480, 640, 3), np.uint8), "<numpy (480, 640, 3) uint8>"),
        (Image.new("L", (640, 480)), "<PIL image 640x480 L>"),
        ("data:image/png;base64,AAAA", "<data URL, 26 characters>"),
        ("https://host/a.png", "https://host/a.png"),
        ("a\nb.png", "a?b.png"),
        ("", "<empty path>"),
        (None, "<NoneType>"),
    ],
)
def test_names_for_messages_are_short(source, name):
    assert describe_source(source) == name
    assert len(describe_source("d/" + "x" * 4000 + ".jpg")) <= 80


def test_the_callers_image_and_array_stay_as_they_were(tmp_path):
    array = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    kept = array.copy()
    load_image(array).putpixel((0, 0), (9, 9, 9))
    assert (array == kept).all()

    image = Image.fromarray(array)
    image.info["note"] = "mine"
    load_image(image).putpixel((0, 0), (9, 9, 9))
    assert image.info == {"note": "mine"}
    assert (np.asarray(image) == kept).all()

    (tmp_path / "red.png").write_bytes(png(RED))
    with Image.open(tmp_path / "red.png") as lazy:
        load_image(lazy)
        assert lazy.getpixel((0, 0)) == (255, 0, 0)


def test_importing_and_decoding_load_only_the_reader_in_need():
    code = (
        "import sys, io, fastinfer.images as f\n"
        "def plugins(): return sorted(m for m in sys.modules if m.endswith('ImagePlugin'))\n"
        "assert plugins() == [] and 'numpy' not in sys.modules, plugins()\n"
        "f.load_image(bytes.fromhex(sys.argv[1]))\n"
        "assert plugins() == ['PIL.PngImagePlugin'], plugins()\n"
    )
    subprocess.run([sys.executable, "-c", code, png(RED).hex()], check=True, timeout=60)
