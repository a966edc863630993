"""The samples, turned: more pictures than there are files, of the same things."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

import fastinfer

__all__ = ["sample_files", "turned_samples"]

_SAMPLES: Final = Path(fastinfer.__file__).parent / "samples"


def sample_files() -> list[Path]:
    """The samples, in the order in which they are turned."""
    return sorted(_SAMPLES.glob("*.png")) + sorted(_SAMPLES.glob("*.jpg"))


def turned_samples(angles: Iterable[int]) -> list[Image.Image]:
    """Every sample turned by each of these angles in degrees, the corners white; RGB, without metadata."""
    files = sample_files()
    found = []
    for angle in angles:
        for file in files:
            upright = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
            turned = upright.rotate(angle, fillcolor=(255, 255, 255))
            turned.info.clear()
            found.append(turned)
    return found
