"""What every preparation has."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from PIL import Image

from fastinfer.images.prepared import ImagePreparation, Pixels

__all__ = ["Preparation", "checked_size", "resized"]


class Preparation(ImagePreparation, Protocol):
    """The image processor of one model."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(width, height) in pixels that every image becomes, or None where it depends on the image.

        An image that has this size already is not resized again.
        """

    @property
    def most_tokens(self) -> int:
        """The most tokens that one image can take."""

    def tokens(self, width: int, height: int) -> int:
        """The tokens that an image of this size, in pixels, takes.

        Raises:
            ImageDecodeError: the model takes no image of this shape.
        """


def checked_size(pixels: Pixels) -> tuple[int, int]:
    """The (width, height) of an image in pixels.

    Raises:
        ValueError: it is not uint8 of shape (height, width, 3), or empty.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"pixels must be uint8 of shape (height, width, 3), not {pixels.dtype} of {pixels.shape}")
    height, width, _ = pixels.shape
    return width, height


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The image at (width, height) `size` by Pillow's BICUBIC; the same array where it has that size."""
    height, width, _ = pixels.shape
    if (width, height) == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
