"""From any Pillow mode to 8-bit RGB, without clipping, and with transparency laid on white."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageChops

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["as_rgb", "grey_from_wide", "oriented", "to_rgb", "to_rgb_array"]

_WHITE = (255, 255, 255)
_TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def to_rgb_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The pixels of `image` as a new, C-contiguous, writable array of shape (height, width, 3), uint8, 0 to 255.

    Modes other than RGB are converted as :func:`fastinfer.images.load_image` does, EXIF orientation aside.

    Raises:
        ValueError: integer or float samples have no defined scale.
    """
    import numpy as np

    return np.array(image if image.mode == "RGB" else to_rgb(image), dtype=np.uint8, order="C")


def oriented(image: Image.Image, orientation: int) -> Image.Image:
    """`image` turned upright, given its EXIF orientation (1 to 8; other values leave it as it is)."""
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """A new image of mode RGB with the content of `image`, which stays as it is.

    Transparency is composited on white. Samples of 16 bits are scaled to 8 (65535 becomes 255), not clipped.
    Embedded colour profiles are not applied. The result carries no metadata, so nothing is applied to it twice.

    Raises:
        ValueError: the values have no defined scale (32-bit integers beyond 65535, or negative; floats likewise).
    """
    rgb = as_rgb(image)
    if rgb is image:
        rgb = image.copy()
    rgb.info = {}
    return rgb


def as_rgb(image: Image.Image) -> Image.Image:
    """As :func:`to_rgb`, but `image` itself where nothing is to be converted, and perhaps with its metadata."""
    mode = image.mode
    key = image.info.get("transparency")
    if mode == "P":
        has_alpha = key is not None or (image.palette is not None and image.palette.mode == "RGBA")
        return _on_white(image.convert("RGBA")) if has_alpha else image.convert("RGB")
    if mode == "La":  # premultiplied; Pillow leads to RGB only by way of LA
        return _on_white(image.convert("LA"))
    if mode in {"RGBA", "LA", "PA", "RGBa"}:
        return _on_white(image)
    if mode in {"1", "L"}:
        grey = image.convert("L")
        rgb = grey.convert("RGB")
        if isinstance(key, int):
            rgb.paste(_WHITE, mask=_equal(grey, key))
        return rgb
    if mode == "RGB":
        return _without_key(image, key) if isinstance(key, tuple) and len(key) == 3 else image
    if mode in {"I", "F"} or mode.startswith("I;16"):
        return _grey_from_image(image).convert("RGB")
    if mode == "LAB":
        return _from_lab(image)
    return image.convert("RGB")  # CMYK, YCbCr, HSV, RGBX


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    canvas = Image.new("RGB", rgba.size, _WHITE)
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return canvas


def _equal(band: Image.Image, value: int) -> Image.Image:
    """A mask, 255 where the 8-bit `band` holds `value`."""
    return band.point([255 if level == value else 0 for level in range(256)])


def _without_key(image: Image.Image, key: tuple[int, int, int]) -> Image.Image:
    red, green, blue = (_equal(band, value) for band, value in zip(image.split(), key, strict=True))
    rgb = image.copy()
    rgb.paste(_WHITE, mask=ImageChops.darker(ImageChops.darker(red, green), blue))
    return rgb


def _grey_from_image(image: Image.Image) -> Image.Image:
    import numpy as np

    values = np.asarray(image)
    if image.mode == "F":
        return Image.fromarray(_grey_from_float(values))
    if image.mode == "I":
        # Pillow holds 16-bit samples in this mode; what does not fit them has no scale that could be known.
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"its 32-bit samples lie from {values.min()} to {values.max()}, outside 0 to 65535; "
                "scale them to 8 bits first"
            )
        values = values.astype(np.uint16)
    grey = grey_from_wide(values)
    tags = getattr(image, "tag_v2", None)
    # Pillow turns "white is zero" round in TIFF files of up to 8 bits only.
    if image.mode != "I" and tags is not None and tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = 255
    return Image.fromarray(grey)


def grey_from_wide(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """16-bit samples (0 to 65535) as 8-bit ones (0 to 255), rounded to nearest; a new array of the same shape."""
    import numpy as np

    levels = (np.arange(65536, dtype=np.uint32) * 255 + 32767) // 65535
    scaled: npt.NDArray[np.uint8] = levels.astype(np.uint8)[values]
    return scaled


def _grey_from_float(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Float samples as 8-bit ones. Their range says the scale: 0 to 1, else 0 to 255, else 0 to 65535."""
    import numpy as np

    low, high = float(values.min()), float(values.max())
    # Written so that NaN fails too.
    if not (low >= 0.0 and high <= 65535.0):
        raise ValueError(f"its float samples lie from {low:g} to {high:g}; scale them to 0 to 1 or 0 to 255 first")
    top = 1.0 if high <= 1.0 else 255.0 if high <= 255.0 else 65535.0
    scaled: npt.NDArray[np.uint8] = np.rint(values * (255.0 / top)).astype(np.uint8)
    return scaled


def _from_lab(image: Image.Image) -> Image.Image:
    try:
        from PIL import ImageCms
    except ImportError as error:
        raise NotImplementedError("this Pillow comes without LittleCMS, which LAB colours need") from error
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None
    return converted
