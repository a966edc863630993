"""What an image becomes on its way to an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, Union

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Bits", "EngineImage", "ImagePreparation", "Pixels", "PreparedImage"]

Pixels: TypeAlias = "npt.NDArray[np.uint8]"
"""An image: (height, width, 3), RGB, 0 to 255."""

Bits: TypeAlias = "npt.NDArray[np.uint16]"
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


EngineImage: TypeAlias = Union["Pixels", PreparedImage]
"""What an engine takes: an image prepared for it, or pixels where it prepares images itself."""


class ImagePreparation(Protocol):
    """What is done to pixels for an engine. Safe to use from several threads at once, and can be pickled."""

    @property
    def dtype(self) -> str:
        """Of the numbers that it makes: ``bfloat16`` or ``float16``."""

    def prepare(self, pixels: Pixels) -> PreparedImage:
        """One image for the encoder.

        Args:
            pixels: (height, width, 3) uint8, RGB.

        Raises:
            ImageDecodeError: the model takes no image of this shape.
            ValueError: `pixels` is of another type or shape, or empty.
        """
