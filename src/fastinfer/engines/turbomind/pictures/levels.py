"""Normalisation of 8-bit pixels by table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastinfer.images.prepared import Bits

__all__ = ["PixelLevels", "bfloat16_bits", "float16_bits", "normalised_levels"]


def normalised_levels(mean: Sequence[float], std: Sequence[float], rescale: float) -> npt.NDArray[np.float32]:
    """What the levels 0 to 255 become in each channel: (3, 256), float32, before rounding to 16 bits.

    The arithmetic is that of the numpy image processors of Transformers: ``level * rescale`` in float64 and rounded to
    float32, then less the mean and divided by the standard deviation in float32. Their torch variants fold the scale
    into mean and deviation, which moves the last bits of float32; with the published means and deviations no number
    differs after rounding to 16 bits.

    Args:
        mean: of each channel, in the scaled range (0 to 1, where `rescale` is 1/255).
        std: the standard deviation of each channel, likewise; above 0.
        rescale: what a level is multiplied with.

    Raises:
        ValueError: there are not three of each, or a value is out of its range.
    """
    if len(mean) != 3 or len(std) != 3:
        raise ValueError(f"mean and std must have 3 values, not {len(mean)} and {len(std)}")
    if not all(map(math.isfinite, (*mean, *std, rescale))) or min(*std, rescale) <= 0:
        raise ValueError(f"std and rescale must be above 0 and all finite: {mean=}, {std=}, {rescale=}")
    scaled = (np.arange(256, dtype=np.float64) * rescale).astype(np.float32)
    means, deviations = np.array(mean, dtype=np.float32), np.array(std, dtype=np.float32)
    normalised: npt.NDArray[np.float32] = (scaled - means[:, None]) / deviations[:, None]
    return normalised


def bfloat16_bits(values: npt.NDArray[np.float32]) -> Bits:
    """The bits of the nearest bfloat16 numbers, ties to the even one; the same shape. The values must be finite."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    # bfloat16 is the upper half of float32. Adding just under half a step, and the rest when the last bit that stays
    # is odd, carries into the upper half exactly when the value is to be rounded up.
    carried = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded: Bits = (carried >> np.uint32(16)).astype(np.uint16)
    return rounded


def float16_bits(values: npt.NDArray[np.float32]) -> Bits:
    """The bits of the nearest float16 numbers, ties to the even one; the same shape. The values must be finite."""
    return np.ascontiguousarray(values, dtype=np.float32).astype(np.float16).view(np.uint16)


_ROUNDINGS = {"bfloat16": bfloat16_bits, "float16": float16_bits}


class PixelLevels:
    """From 8-bit levels to normalised 16-bit numbers.

    Two neighbouring pixels are looked up at once, in a table of 65,536 pairs for each channel (768 KiB together): that
    takes two thirds of the time of single look-ups, and half that of float arithmetic with rounding.

    Args:
        mean: see :func:`normalised_levels`.
        std: likewise.
        rescale: likewise.
        dtype: ``bfloat16`` or ``float16``.

    Raises:
        ValueError: an argument is out of its range.
    """

    __slots__ = ("_pairs",)

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], rescale: float, dtype: str) -> None:
        if dtype not in _ROUNDINGS:
            raise ValueError(f"dtype must be one of {', '.join(_ROUNDINGS)}, not {dtype!r}")
        levels = _ROUNDINGS[dtype](normalised_levels(mean, std, rescale))
        # Pixels in memory order, whatever this machine's byte order: the view that takes them apart here is the one
        # that takes images as pairs below.
        pixels = np.arange(65536, dtype=np.uint16).view(np.uint8).reshape(65536, 2)
        self._pairs = tuple(np.ascontiguousarray(channel[pixels]).view(np.uint32)[:, 0] for channel in levels)

    def look_up(self, planes: npt.NDArray[np.uint8], bits: Bits) -> None:
        """Fill `bits` with what `planes` become.

        Args:
            planes: the red, green and blue levels: (3, ...) uint8, C-contiguous, the last dimension even.
            bits: the same shape, uint16, C-contiguous.
        """
        levels, found = planes.view(np.uint16), bits.view(np.uint32)
        for channel, pairs in enumerate(self._pairs):
            # Every pair is in the table. With the default mode, numpy would check first and go by way of a copy.
            np.take(pairs, levels[channel], out=found[channel], mode="wrap")
