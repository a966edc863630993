"""Pictures of different shapes: portrait, landscape, square, long, and one that has to be enlarged."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image

import fastinfer

__all__ = ["different_shapes"]

_SAMPLES: Final = Path(fastinfer.__file__).parent / "samples"
_SIZES: Final = {
    "3.png": (160, 230),
    "blue-square.png": (230, 160),
    "fish.png": (200, 200),
    "mushroom.jpg": (320, 110),
    "red-circle.png": (90, 300),
    "umbrella.png": (37, 41),
}


def different_shapes() -> list[Image.Image]:
    """Six RGB pictures, (width, height) from 37x41 to 320x110 pixels."""
    return [Image.open(_SAMPLES / name).convert("RGB").resize(size) for name, size in _SIZES.items()]
