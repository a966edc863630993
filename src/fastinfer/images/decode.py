"""Encoded bytes to pixels, with every fault of the data turned into one error."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator

from PIL import Image

from fastinfer.errors import ImageDecodeError

from .convert import as_rgb, oriented
from .formats import foreign_format, reader, sniff, webp_size
from .ico import largest_picture
from .quiet import pillow_warnings_ignored
from .strict import TruncatedImageError, load_completely

__all__ = ["check_size", "decode", "decoding", "upright_rgb"]

# Where Pillow finds the orientation of a JPEG; without any of them there is none.
_WITH_ORIENTATION = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"})

# What Pillow's readers and decoders raise on damaged data (a UnicodeDecodeError is a ValueError, a NotImplementedError
# a RuntimeError). Its readers are Python that takes a file's fields for what they should be: a field of another type
# (the offset of a TIFF file's pixels may be a float) is what any operation makes of it. The tests and the fuzzing
# target "images" change files of every format to show that there is no other.
_DATA_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    MemoryError,
    ArithmeticError,
    EOFError,
    RuntimeError,  # the AVIF decoder
    struct.error,
    Image.DecompressionBombError,
    TypeError,
    LookupError,
    AttributeError,
)


@contextlib.contextmanager
def decoding(name: object, kind: str) -> Iterator[None]:
    """Turn what Pillow raises inside the block into ImageDecodeError, and ignore its warnings.

    Args:
        name: how the error calls the image; its ``str()`` is asked for by errors alone.
        kind: its format, for the message.
    """
    try:
        with pillow_warnings_ignored():
            yield
    except TruncatedImageError as error:
        raise _truncated(name, kind) from error
    except MemoryError as error:
        raise ImageDecodeError(
            f"Cannot read {name}: not enough memory to decode this {kind} image.",
            hint="Resize it first, or decode fewer images at a time.",
        ) from error
    except Image.DecompressionBombError as error:
        # Newer readers of WebP and TIFF, and that of GIF for a frame beyond its canvas, ask Pillow's own limit, with
        # no way to pass another; changing that process-wide setting is the application's business.
        raise ImageDecodeError(
            f"Cannot read {name}: Pillow refuses this {kind} image as too large ({error}).",
            hint="Resize it first, or raise PIL.Image.MAX_IMAGE_PIXELS.",
        ) from error
    except _DATA_FAULTS as error:
        if "truncated" in str(error).lower():
            raise _truncated(name, kind) from error
        raise ImageDecodeError(
            f"Cannot read {name} as {kind}: {str(error) or type(error).__name__}.",
            hint="The data is damaged or unusual; open and save it again with an image program.",
        ) from error


def _truncated(name: object, kind: str) -> ImageDecodeError:
    return ImageDecodeError(
        f"Cannot read {name}: this {kind} image is truncated, its data ends before the last pixel.",
        hint="Copy or download the file again.",
    )


def check_size(size: tuple[int, int], name: object, max_pixels: int) -> None:
    """Refuse an image of no pixels, or of more than `max_pixels`.

    Args:
        size: width and height in pixels.
        name: how the error calls the image.
        max_pixels: the most pixels (width times height) an image may have.

    Raises:
        ImageDecodeError: the size is out of bounds.
    """
    width, height = size
    if width < 1 or height < 1:
        raise ImageDecodeError(
            f"Cannot read {name}: it is {width}x{height}, which is no pixel.", hint="Check its origin."
        )
    if width * height > max_pixels:
        raise ImageDecodeError(
            f"Cannot read {name}: {width}x{height} is {width * height:,} pixels, over the limit of {max_pixels:,}.",
            hint=f"Resize it first, or pass max_pixels={width * height} or more if you trust it.",
        )


def decode(
    data: bytes, name: object, *, max_pixels: int, formats: frozenset[str], size: tuple[int, int] | None
) -> Image.Image:
    """The first picture in `data`, upright, mode RGB, at its own size or `size`.

    Args:
        data: an encoded image file.
        name: how errors call it.
        max_pixels: the most pixels allowed; judged by the header, before pixels are decoded.
        formats: the formats allowed.
        size: width and height to resize to with Pillow's BICUBIC, or None. A JPEG at least 4 times as large is then
            decoded at 1/2, 1/4 or 1/8 of its size, whichever still leaves twice the target on both sides.

    Raises:
        ImageDecodeError: `data` is no such image, is damaged or truncated, or is too large.
    """
    kind = _allowed_kind(data, name, formats)
    with decoding(name, kind):
        if kind == "ICO":
            data = largest_picture(data)
            kind = sniff(data) or kind
        if kind == "WEBP" and (canvas := webp_size(data)) is not None:
            check_size(canvas, name, max_pixels)
        with reader(kind)(io.BytesIO(data)) as image:
            check_size(image.size, name, max_pixels)
            if size is not None and kind == "JPEG":
                _draft(image, size)
            # The data is in memory: decoded in one piece, it is copied and the interpreter's lock given up once.
            image.decodermaxblock = max(image.decodermaxblock, len(data))
            load_completely(image)
            if kind == "PNG":
                _fit_png_key(image, depth=data[24])
            return upright_rgb(image, size)


def _allowed_kind(data: bytes, name: object, formats: frozenset[str]) -> str:
    if not data:
        raise ImageDecodeError(f"Cannot read {name}: it is empty (0 bytes).", hint="Copy or download the file again.")
    kind = sniff(data)
    if kind in formats:
        return kind
    found = kind or foreign_format(data)
    allowed = ", ".join(sorted(formats))
    if found is None:
        raise ImageDecodeError(
            f"Cannot read {name}: its content is no image of a known format.", hint=f"Formats read: {allowed}."
        )
    raise ImageDecodeError(
        f"Cannot read {name}: its content is {found}, which is not among the formats allowed.",
        hint=f"Convert it to one of: {allowed}.",
    )


def _draft(image: Image.Image, size: tuple[int, int]) -> None:
    # libjpeg's own scaling averages whole blocks of pixels. With twice the target left, the final bicubic step
    # still decides what is seen.
    width, height = size
    if _orientation(image) in {5, 6, 7, 8}:
        width, height = height, width
    if image.width >= 4 * width and image.height >= 4 * height:
        image.draft(None, (2 * width, 2 * height))


def _fit_png_key(image: Image.Image, depth: int) -> None:
    """Bring a PNG's transparent colour to the 8-bit scale of the pixels; Pillow gives it as the file has it."""
    key = image.info.get("transparency")
    if isinstance(key, int) and image.mode == "1":
        image.info["transparency"] = 255 if key else 0  # newer versions of Pillow give 255 already
    elif isinstance(key, int) and image.mode == "L" and depth < 8:
        image.info["transparency"] = key * 255 // (2**depth - 1)
    elif isinstance(key, tuple) and image.mode == "RGB" and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _orientation(image: Image.Image) -> int:
    if image.format in {"JPEG", "MPO"} and _WITH_ORIENTATION.isdisjoint(image.info):
        return 1  # Pillow takes a tenth of the reading of a small file to find that nothing is there
    try:
        value = image.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError, IndexError, KeyError, TypeError, struct.error):
        return 1  # damaged metadata is no reason to refuse sound pixels
    return value if isinstance(value, int) else 1


def upright_rgb(image: Image.Image, size: tuple[int, int] | None = None) -> Image.Image:
    """A new RGB image with the pixels of the loaded `image`, turned as its EXIF data says.

    Args:
        image: left as it is.
        size: width and height to resize to with Pillow's BICUBIC; None keeps those of the image.
    """
    rgb = oriented(as_rgb(image), _orientation(image))
    if size is not None and rgb.size != size:
        rgb = rgb.resize(size, Image.Resampling.BICUBIC)
    elif rgb is image:
        rgb = image.copy()
    rgb.info = {}
    return rgb
