"""An image's bytes: pixels of the right shape, or one error, and no more memory than the limit of pixels allows."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, features

from fastinfer.errors import ImageDecodeError
from fastinfer.images import load_image
from fastinfer.images.decoder import Decoder
from fastinfer.images.source import describe_source

__all__ = ["WORDS", "check", "seeds"]

WORDS = (
    *(b"\x89PNG\r\n\x1a\n", b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL"),
    *(b"GIF89a", b"\x21\xf9\x04", b"\x21\xff\x0bNETSCAPE2.0", b"BM", b"II*\0", b"MM\0*", b"\0\0\1\0", b"P6 ", b"P4\n"),
    *(b"RIFF", b"WEBPVP8X", b"VP8L", b"VP8 ", b"ALPH", b"ANIM", b"ANMF", b"\xff\xd8\xff", b"\xff\xda", b"Exif\0\0"),
    *(b"ftypavif", b"meta", b"ispe", b"mdat"),
)
_MAX_PIXELS = 250_000
_WHOLE = Decoder(max_pixels=_MAX_PIXELS)
_SMALL = Decoder(max_pixels=_MAX_PIXELS, size=(8, 6))


def seeds() -> list[bytes]:
    """A tiny picture in every format that is read, and in the modes that are decoded in a way of their own."""
    plain = Image.frombytes("RGB", (9, 7), bytes(i * 37 % 256 for i in range(9 * 7 * 3)))
    found = [_encoded(plain, kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "ICO")]
    found += [_encoded(plain, "WEBP"), _encoded(plain, "WEBP", lossless=True)]
    found += [_encoded(plain.convert(mode), "PNG") for mode in ("1", "L", "LA", "RGBA", "P", "I;16")]
    found += [_encoded(plain.convert(mode), "TIFF") for mode in ("1", "CMYK", "F", "I;16", "LAB", "RGBA")]
    found += [_encoded(plain, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")]
    found += [_encoded(plain.convert("CMYK"), "JPEG"), _encoded(plain, "JPEG", progressive=True, exif=_turned())]
    found += [_encoded(plain, kind, save_all=True, append_images=[plain, plain]) for kind in ("GIF", "PNG", "WEBP")]
    found += [b"P1\n2 2\n0 1\n1 0\n", b"P3 1 1 255 1 2 3", b"P5 2 1 65535 " + struct.pack(">HH", 1, 65535)]
    if features.check("avif"):
        found.append(_encoded(plain, "AVIF"))
    return found


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def check(data: bytes) -> None:
    """The three ways to read an image agree, and pixels are (height, width, 3) of uint8."""
    try:
        pixels = _WHOLE.decode(data, "an image")
    except ImageDecodeError as error:
        assert error.hint, "an error without a way out"
        pixels = None
    try:
        image = load_image(data, max_pixels=_MAX_PIXELS)
        assert pixels is not None, f"load_image reads {describe_source(data)}, the decoder does not"
        assert image.mode == "RGB"
        assert not image.info
        assert image.tobytes() == np.asarray(pixels).tobytes()
    except ImageDecodeError:
        assert pixels is None, f"the decoder reads {describe_source(data)}, load_image does not"
    if pixels is not None:
        _has_shape(pixels)
        assert pixels.shape[0] * pixels.shape[1] <= _MAX_PIXELS
    try:
        small = _SMALL.decode(data, "an image")
    except ImageDecodeError:
        assert pixels is None, "an image can be read but not made smaller"
    else:
        _has_shape(small)
        assert small.shape == (6, 8, 3)


def _has_shape(pixels: object) -> None:
    assert isinstance(pixels, np.ndarray)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert min(pixels.shape) > 0
