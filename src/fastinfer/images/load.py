"""The one way in: any accepted source to a Pillow image of mode RGB."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from PIL import Image

from fastinfer.errors import ImageDecodeError

from .convert import as_rgb, grey_from_wide
from .decode import check_size, decode, decoding, upright_rgb
from .formats import DEFAULT_FORMATS, normalise_formats
from .source import ImageSource, SourceName, is_array, read_bytes
from .strict import load_completely

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["DEFAULT_MAX_PIXELS", "FORMATS", "as_array", "load_image", "load_rgb_array"]

DEFAULT_MAX_PIXELS = 64_000_000
"""The most pixels, width times height, that an image may have unless told otherwise: 192 MB as RGB."""

FORMATS = normalise_formats(DEFAULT_FORMATS)
"""The default formats by the names that :func:`fastinfer.images.decode.decode` takes."""

# Loading a Pillow image is not safe in two threads at once, and one image may be in several requests. Images cannot
# be keys of a dictionary, so a fixed set of locks is shared out by address.
_LOCKS = tuple(threading.Lock() for _ in range(64))


def load_image(
    source: ImageSource,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    formats: Iterable[str] = DEFAULT_FORMATS,
    size: tuple[int, int] | None = None,
) -> Image.Image:
    """Read an image as 8-bit RGB.

    The content decides on the format, not the file's name. Of an animation or a multi-page file the first frame is
    read. EXIF orientation is applied, transparency is composited on white, 16-bit samples are scaled to 8 bits;
    embedded colour profiles are not applied. A truncated file is an error, also while
    ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` is True. Safe to call from several threads.

    Args:
        source: a path; a base64 ``data:`` URL; an image file's bytes (bytes, bytearray, memoryview); a Pillow image
            (of any mode; its current frame; it is neither changed nor closed, but one not yet loaded is loaded); or a
            numpy array: uint8 of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) (grey, RGB, RGBA), or uint16
            (0 to 65535) or bool (False is black) of shape (H, W) or (H, W, 1).
        max_pixels: the most pixels, width times height, of any source. Judged by the header before pixels are
            decoded; Pillow's own MAX_IMAGE_PIXELS neither warns nor raises (except for WebP, TIFF and GIF files of more
            than twice that setting, by default 179 million pixels, which some versions refuse by themselves).
        formats: the formats allowed for encoded sources; see :data:`DEFAULT_FORMATS`.
        size: (width, height) in pixels to resize to with Pillow's BICUBIC; the aspect ratio is not kept. None keeps
            the image's own size. A JPEG of at least 4 times the size on both sides is decoded at 1/2, 1/4 or 1/8 of
            its own, never below twice `size`: a 12 MP photo takes a third of the time, and the
            result differs from the full decode by rounding and filtering too small to see.

    Returns:
        A new image of mode RGB, loaded, without metadata, that shares no memory with `source`.

    Raises:
        ImageDecodeError: the source cannot be read as an image; ``__cause__`` is the original error, if any.
        ValueError: `max_pixels`, `formats` or `size` is not legal.
    """
    allowed, size = _checked(max_pixels, formats, size)
    name = SourceName(source)
    if isinstance(source, Image.Image):
        rgb = _from_pillow(source, name, max_pixels)
    elif is_array(source):
        rgb = _from_array(source, name, max_pixels)
    else:
        return decode(read_bytes(source, name), name, max_pixels=max_pixels, formats=allowed, size=size)
    if size is None or rgb.size == size:
        return rgb
    with decoding(name, "RGB"):
        return rgb.resize(size, Image.Resampling.BICUBIC)


def load_rgb_array(
    source: ImageSource,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    formats: Iterable[str] = DEFAULT_FORMATS,
    size: tuple[int, int] | None = None,
) -> npt.NDArray[np.uint8]:
    """:func:`load_image` as a new, C-contiguous array of shape (height, width, 3), uint8, which may be read-only.

    An RGB array that has `size` already is copied and nothing else, without the way through a Pillow image.

    Raises:
        ImageDecodeError: as :func:`load_image`.
        ValueError: as :func:`load_image`.
    """
    import numpy as np

    if isinstance(source, np.ndarray) and source.ndim == 3 and source.shape[2] == 3 and source.dtype == np.uint8:
        _, size = _checked(max_pixels, formats, size)
        own = (source.shape[1], source.shape[0])
        check_size(own, SourceName(source), max_pixels)
        if size is None or size == own:
            return np.array(source, order="C")
    return as_array(load_image(source, max_pixels=max_pixels, formats=formats, size=size))


def as_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The pixels of an image of mode RGB: (height, width, 3) uint8, read-only."""
    import numpy as np

    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)


def _checked(
    max_pixels: int, formats: Iterable[str], size: tuple[int, int] | None
) -> tuple[frozenset[str], tuple[int, int] | None]:
    """The formats allowed, and the size as a tuple, if all three are legal."""
    allowed = FORMATS if formats is DEFAULT_FORMATS else normalise_formats(formats)
    if max_pixels < 1:
        raise ValueError(f"max_pixels must be at least 1, not {max_pixels}")
    if size is None:
        return allowed, None
    width, height = size
    if width < 1 or height < 1:
        raise ValueError(f"size must be (width, height), both at least 1, not {size!r}")
    return allowed, (width, height)


def _from_pillow(image: Image.Image, name: SourceName, max_pixels: int) -> Image.Image:
    check_size(image.size, name, max_pixels)
    with _LOCKS[(id(image) >> 4) % len(_LOCKS)], decoding(name, image.format or "PIL"):
        load_completely(image)
        return upright_rgb(image)


def _from_array(array: Any, name: SourceName, max_pixels: int) -> Image.Image:
    import numpy as np

    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    kind, shape = pixels.dtype, pixels.shape
    coloured = len(shape) == 3 and shape[2] in {3, 4}
    if kind.kind == "f":
        raise ImageDecodeError(
            f"Cannot read {name}: float pixels have no fixed scale.",
            hint="Convert them: (array * 255).round().astype(numpy.uint8) for values from 0 to 1.",
        )
    if len(shape) != 2 and not coloured:
        first = len(shape) == 3 and shape[0] in {1, 3, 4}
        raise ImageDecodeError(
            f"Cannot read {name}: the shape is not (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).",
            hint="Channels come last: array.transpose(1, 2, 0)." if first else "Pass one image at a time.",
        )
    check_size((shape[1], shape[0]), name, max_pixels)
    if kind == np.bool_ and not coloured:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif kind.kind == "u" and kind.itemsize == 2 and not coloured:
        pixels = grey_from_wide(pixels)
    elif kind != np.uint8:
        raise ImageDecodeError(
            f"Cannot read {name}: {kind} is not read in this shape.",
            hint="Pass uint8 with values from 0 to 255, or uint16 or bool of shape (H, W).",
        )
    with decoding(name, "numpy"):
        # Made here, of a copy of the pixels or of a type that is converted; so it need not be copied again.
        rgb = as_rgb(Image.fromarray(np.ascontiguousarray(pixels)))
        rgb.info = {}
        return rgb
