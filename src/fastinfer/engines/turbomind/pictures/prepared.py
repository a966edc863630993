"""What every preparation takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["Bits", "Pixels", "Preparation", "PreparedImage", "checked_size", "resized"]

Pixels = npt.NDArray[np.uint8]
"""An image: (height, width, 3), RGB, 0 to 255."""

Bits = npt.NDArray[np.uint16]
"""The bits of bfloat16 or float16 numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """One image as the vision encoder takes it.

    Attributes:
        data: the bits of bfloat16 or float16 numbers. InternVL: (tiles, 3, height, width). Qwen: (patches,
            3 * frames * patch * patch).
        tokens: image tokens that it takes in the prompt.
        grid: Qwen: patches in (time, height, width); None for InternVL.
    """

    data: Bits
    tokens: int
    grid: tuple[int, int, int] | None


class Preparation(Protocol):
    """The image processor of one model. Safe to use from several threads at once."""

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

    def prepare(self, pixels: Pixels) -> PreparedImage:
        """One image for the encoder.

        Args:
            pixels: (height, width, 3) uint8, RGB.

        Raises:
            ImageDecodeError: the model takes no image of this shape.
            ValueError: `pixels` is of another type or shape, or empty.
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
