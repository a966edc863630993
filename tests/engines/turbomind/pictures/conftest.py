"""Pictures of all kinds, and 16-bit rounding by another way than the library's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import fastinfer

SAMPLES = Path(fastinfer.__file__).parent / "samples"
NOISE_SIZES = ((64, 64), (1, 1), (1, 150), (150, 1), (2, 3), (37, 501), (333, 91), (449, 447))


@pytest.fixture(scope="session")
def pictures() -> dict[str, npt.NDArray[np.uint8]]:
    """Photographs, drawings, and noise of odd and extreme sizes (width, height); (H, W, 3) uint8."""
    found = {path.name: np.array(Image.open(path).convert("RGB")) for path in sorted(SAMPLES.glob("*.*g"))}
    random = np.random.default_rng(7)
    for width, height in NOISE_SIZES:
        found[f"noise {width}x{height}"] = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert len(found) >= len(NOISE_SIZES) + 8
    return found


def _bfloat16(values: Any) -> npt.NDArray[np.uint16]:
    """Rounded as decimal arithmetic would: 8 significant bits, halves to the even one, in float64."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    rounded = np.ldexp(np.rint(mantissa * 256), exponent - 8)
    return (rounded.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def _float16(values: Any) -> npt.NDArray[np.uint16]:
    """The same with 11 significant bits, for numbers that are not too small for them."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    return np.ldexp(np.rint(mantissa * 2048), exponent - 11).astype(np.float16).view(np.uint16)


@pytest.fixture(scope="session")
def in_16_bits() -> dict[str, Callable[[Any], npt.NDArray[np.uint16]]]:
    """By the name of the type: the bits of the nearest numbers."""
    return {"bfloat16": _bfloat16, "float16": _float16}
