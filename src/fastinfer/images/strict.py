"""Decoding that fails on incomplete data, whatever ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` says.

Other libraries set that flag to True for the whole process, at any time, and Pillow then pads a truncated image and
says nothing. The flag cannot be guarded from here: it is read in the middle of a load, and setting it back would race
with its other users. So the flag is made irrelevant. It acts in two places only: around the decoder, where Pillow
ignores an error status or an early end, and in the JPEG reader, which adds the missing end marker. Each image here is
decoded through a wrapper that raises in both of the first cases, and JPEG data is read without the addition.
"""

from __future__ import annotations

from typing import Any, cast

from PIL import Image, ImageFile

__all__ = ["TruncatedImageError", "load_completely"]

_NAME = "fastinfer-complete"
# libtiff's decoder is run by the TIFF reader itself, which checks its status and never asks the flag.
_CHECKED_BY_READER = frozenset({"libtiff", _NAME})


class TruncatedImageError(OSError):
    """The data ended before the last pixel."""


class _CompleteDecoder:
    """A Pillow decoder that ends well only when the real one reports that it has finished without an error."""

    def __init__(self, mode: str, name: str, args: Any, *extra: Any) -> None:
        self._decoder: Any = Image._getdecoder(mode, name, args, extra)
        self._unfinished = False

    @property
    def pulls_fd(self) -> bool:
        return bool(self._decoder.pulls_fd)

    def setimage(self, image: Any, extents: Any = None) -> None:
        self._decoder.setimage(image, extents)
        self._unfinished = True

    def setfd(self, file: Any) -> None:
        self._decoder.setfd(file)

    def decode(self, buffer: Any) -> tuple[int, int]:
        self._unfinished = False
        consumed, status = cast("tuple[int, int]", self._decoder.decode(buffer))
        if status < 0:
            raise OSError(f"the decoder reports: {ImageFile.ERRORS.get(status, f'error {status}')}")
        # By Pillow's protocol a negative count says that the image is complete.
        self._unfinished = consumed >= 0
        return consumed, status

    def cleanup(self) -> None:
        # Pillow calls this last, in a `finally`, also when it has decided to overlook the early end.
        self._decoder.cleanup()
        if self._unfinished:
            raise TruncatedImageError("the data ends before the last pixel")


Image.register_decoder(_NAME, cast("type[ImageFile.PyDecoder]", _CompleteDecoder))


def load_completely(image: Image.Image) -> None:
    """Load `image`'s pixels as ``image.load()`` does, but raise where data is missing or damaged.

    An image already in memory is left as it is. After a failure the image can be loaded again.

    Raises:
        TruncatedImageError: the data ends before the last pixel.
        OSError, SyntaxError, ValueError and others: whatever Pillow's readers raise.
    """
    if not isinstance(image, ImageFile.ImageFile):
        image.load()
        return
    tiles = image.tile
    if tiles:
        image.tile = [
            tile if tile[0] in _CHECKED_BY_READER else ImageFile._Tile(_NAME, tile[1], tile[2], (tile[0], tile[3]))
            for tile in tiles
        ]
    is_jpeg = image.format in {"JPEG", "MPO"} and image.fp is not None
    if is_jpeg:
        assert image.fp is not None
        # The reader's own load_read is this same read, plus the end marker that the flag has it add.
        image.load_read = image.fp.read  # type: ignore[attr-defined]
    try:
        image.load()
        if image.im is None:  # older versions of Pillow do not notice a file without any pixel data
            raise TruncatedImageError("there is no pixel data")
    except BaseException:
        image.tile = tiles
        raise
    finally:
        if is_jpeg:
            del image.load_read  # type: ignore[attr-defined]
