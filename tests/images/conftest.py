"""Small encoded images, made when the tests run."""

from __future__ import annotations

import importlib.util
import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, features

ORIENTATION = 0x0112


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 24, width: int = 31) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def run_length_bmp() -> bytes:
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    rows = b"\x04\x05\x00\x00" * 4 + b"\x00\x01"
    offset = 14 + 40 + len(palette)
    header = b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset)
    return header + struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 8, 1, len(rows), 0, 0, 256, 0) + palette + rows


def make_samples() -> dict[str, bytes]:
    base, turned = noise(), noise().rotate(90, expand=False)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    wide = Image.fromarray(np.random.default_rng(1).integers(0, 65536, (20, 20), dtype=np.uint16))
    icon = base.resize((24, 24))
    samples = {
        "png": encode(base, "PNG", exif=exif),
        "png palette": encode(base.quantize(16), "PNG", transparency=3),
        "png 16-bit": encode(wide, "PNG"),
        "apng": encode(base, "PNG", save_all=True, append_images=[turned]),
        "jpeg": encode(base, "JPEG", exif=exif),
        "jpeg progressive": encode(base, "JPEG", progressive=True),
        "jpeg cmyk": encode(base.convert("CMYK"), "JPEG"),
        "mpo": encode(base, "MPO", save_all=True, append_images=[turned]),
        "webp": encode(base, "WEBP", exif=exif),
        "webp lossless": encode(base.convert("RGBA"), "WEBP", lossless=True),
        "webp animated": encode(base, "WEBP", save_all=True, append_images=[turned]),
        "gif": encode(base, "GIF"),
        "gif animated": encode(base, "GIF", save_all=True, append_images=[turned]),
        "bmp": encode(base, "BMP"),
        "bmp palette": encode(base.quantize(16), "BMP"),
        "bmp run-length": run_length_bmp(),
        "tiff": encode(base, "TIFF"),
        "tiff lzw": encode(base, "TIFF", compression="tiff_lzw"),
        "tiff fax": encode(base.convert("1"), "TIFF", compression="group4"),
        "ppm": encode(base, "PPM"),
        "pgm plain": b"P2 3 2 255\n1 2 3 4 5 6",
        "ico": encode(icon, "ICO", sizes=[(16, 16), (24, 24)]),
        "ico bitmap": encode(icon, "ICO", sizes=[(16, 16), (24, 24)], bitmap_format="bmp"),
    }
    if importlib.util.find_spec("PIL.AvifImagePlugin") and features.check("avif"):
        samples["avif"] = encode(base, "AVIF")
    return samples


@pytest.fixture(scope="session")
def samples() -> dict[str, bytes]:
    return make_samples()


@pytest.fixture(params=[False, True], ids=["strict flag", "LOAD_TRUNCATED_IMAGES"])
def truncation_flag(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Pillow's process-wide switch in both positions."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = request.param
    yield request.param
    ImageFile.LOAD_TRUNCATED_IMAGES = before


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sample" in metafunc.fixturenames:
        made = make_samples()
        metafunc.parametrize("sample", list(made.values()), ids=[name.replace(" ", "-") for name in made])
