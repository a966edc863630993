"""Qwen2-VL, Qwen2.5-VL and Qwen3.5: an image at nearly its own size, as a list of patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from fastinfer.engines.turbomind.pictures.levels import PixelLevels
from fastinfer.engines.turbomind.pictures.prepared import checked_size, resized
from fastinfer.errors import ImageDecodeError
from fastinfer.images.prepared import Pixels, PreparedImage

__all__ = ["QwenVLPreparation"]

_MOST_ELONGATED: Final = 200  # the longer side over the shorter one; beyond it the model's own processor refuses


class QwenVLPreparation:
    """Images for Qwen's encoders: (patches, 3 * temporal * patch * patch).

    The image is resized so that both sides are multiples of a token's side (`patch` times `merge`), its pixels lie
    within `min_pixels` and `max_pixels`, and its shape stays as nearly as that allows. The patches that merge into one
    token follow each other; within a patch come the channels, in each its `temporal` frames, which are all the same in
    a still image. All this is as in Transformers' ``Qwen2VLImageProcessor``.

    Args:
        patch: side of a patch in pixels; even.
        merge: patches a side that merge into one token.
        temporal: frames in a patch.
        mean: of each channel; see :func:`~fastinfer.engines.turbomind.pictures.levels.normalised_levels`.
        std: likewise.
        rescale: likewise.
        min_pixels: the fewest pixels, width times height, after resizing; at least 1.
        max_pixels: the most; at least `min_pixels`. Very long images take a few more than that.
        dtype: ``bfloat16`` or ``float16``.

    Attributes:
        image_size: None, since the size depends on the image.
        most_tokens: the most tokens that one image can take.

    Raises:
        ValueError: an argument is out of its range.
    """

    __slots__ = (
        "_levels",
        "_max_pixels",
        "_merge",
        "_min_pixels",
        "_patch",
        "_temporal",
        "dtype",
        "image_size",
        "most_tokens",
    )

    def __init__(
        self,
        *,
        patch: int,
        merge: int,
        temporal: int,
        mean: Sequence[float],
        std: Sequence[float],
        rescale: float,
        min_pixels: int,
        max_pixels: int,
        dtype: str,
    ) -> None:
        if patch < 2 or patch % 2:
            raise ValueError(f"patch must be even and above 0, not {patch}")
        if merge < 1 or temporal < 1:
            raise ValueError(f"merge and temporal must be at least 1, not {merge} and {temporal}")
        if not 1 <= min_pixels <= max_pixels:
            raise ValueError(f"min_pixels must be 1 to max_pixels, not {min_pixels} with max_pixels {max_pixels}")
        self._patch = patch
        self._merge = merge
        self._temporal = temporal
        self._min_pixels = min_pixels
        self._max_pixels = max_pixels
        self.dtype = dtype
        self._levels = PixelLevels(mean=mean, std=std, rescale=rescale, dtype=dtype)
        self.image_size = None
        self.most_tokens = _most_tokens(patch * merge, min_pixels, max_pixels)

    def tokens(self, width: int, height: int) -> int:
        """The tokens that an image of this size, in pixels, takes.

        Raises:
            ImageDecodeError: one side is over 200 times as long as the other.
        """
        new_width, new_height = self._fit(width, height)
        return (new_width * new_height) // (self._patch * self._merge) ** 2

    def prepare(self, pixels: Pixels) -> PreparedImage:
        """One image for the encoder.

        Args:
            pixels: (height, width, 3) uint8, RGB.

        Raises:
            ImageDecodeError: one side is over 200 times as long as the other.
            ValueError: `pixels` is of another type or shape, or empty.
        """
        patch, merge = self._patch, self._merge
        width, height = size = self._fit(*checked_size(pixels))
        columns, rows = width // patch, height // patch
        patches = columns * rows
        blocks = (rows // merge, merge, patch, columns // merge, merge, patch, 3)
        planes = np.empty((3, rows // merge, columns // merge, merge, merge, patch, patch), dtype=np.uint8)
        planes[...] = resized(pixels, size).reshape(blocks).transpose(6, 0, 3, 1, 4, 2, 5)
        bits = np.empty((3, patches, patch * patch), dtype=np.uint16)
        self._levels.look_up(planes.reshape(bits.shape), bits)
        data = np.empty((patches, 3, self._temporal, patch * patch), dtype=np.uint16)
        data[...] = bits.transpose(1, 0, 2)[:, :, None]
        return PreparedImage(data.reshape(patches, -1), patches // merge**2, (1, rows, columns))

    def _fit(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels that an image of this size is resized to."""
        if max(width, height) / min(width, height) > _MOST_ELONGATED:
            raise ImageDecodeError(
                f"The model takes no image of {width}x{height} pixels: one side is over {_MOST_ELONGATED} times as "
                "long as the other.",
                hint="Cut it into several images, or pad it.",
            )
        side = self._patch * self._merge
        # Python's round takes ties to the even number, as the model's own processor does.
        new_width, new_height = round(width / side) * side, round(height / side) * side
        if new_width * new_height > self._max_pixels:
            shrink = math.sqrt((height * width) / self._max_pixels)
            new_width = max(side, math.floor(width / shrink / side) * side)
            new_height = max(side, math.floor(height / shrink / side) * side)
        elif new_width * new_height < self._min_pixels:
            enlarge = math.sqrt(self._min_pixels / (height * width))
            new_width = math.ceil(width * enlarge / side) * side
            new_height = math.ceil(height * enlarge / side) * side
        return new_width, new_height


def _most_tokens(side: int, min_pixels: int, max_pixels: int) -> int:
    """The most tokens, each `side` pixels wide and high, of any image; at most a few more than an image really takes.

    An image within the limits has at most as many as `max_pixels` holds. One that was shrunk until its shorter side is
    less than a token keeps one row of them, as long as the longest shape of that area is. One that was enlarged to
    `min_pixels` has both sides rounded up: `rows` runs over what the shorter one can become, and the longer one is
    longest where the shorter one was only just rounded up.
    """
    most, fewest = max_pixels / side**2, min_pixels / side**2
    longest_row = math.floor(math.sqrt(_MOST_ELONGATED * most)) if most < _MOST_ELONGATED else 0
    shortest = math.sqrt(fewest / _MOST_ELONGATED)
    # Rounded up by one where that is exact, since an image's own arithmetic in floats may be a little above it.
    enlarged = (
        rows * (math.floor(fewest / max(rows - 1, shortest)) + 1)
        for rows in range(math.ceil(shortest), math.ceil(math.sqrt(fewest)) + 2)
    )
    return max(1, math.floor(most), longest_row, *enlarged)
