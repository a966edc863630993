"""The pictures: JPEG files that weigh what photographs do, and the samples shifted, scaled, turned and recoloured."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

Field = npt.NDArray[np.float32]

_GRIDS = (3, 6, 12, 24, 48, 96, 192)


def photograph(seed: int, side: int = 448) -> bytes:
    """A JPEG file of quality 90 with ``side`` x ``side`` pixels of noise that is smooth as a photograph is.

    Brightness falls off with frequency as in photographs (amplitude about one over frequency); colour varies slowly.
    """
    random = np.random.default_rng(seed)
    light = _octaves(random, _GRIDS, 0.6, side)
    colours = [_octaves(random, _GRIDS[:4], 1.0, side) for _ in range(3)]
    mixed = light[..., None] + np.float32(0.5) * np.stack(colours, axis=2)
    mixed = (mixed - mixed.mean()) / mixed.std()
    buffer = io.BytesIO()
    Image.fromarray(np.clip(128 + 55 * mixed, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def photographs(count: int, seed: int = 0, side: int = 448) -> list[bytes]:
    """That many different ones."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda number: photograph(number, side), range(seed, seed + count)))


def _octaves(random: np.random.Generator, grids: tuple[int, ...], fall: float, side: int) -> Field:
    """Noise of all these grids, (side, side), weaker the finer."""
    total = np.zeros((side, side), np.float32)
    for grid in grids:
        total += _noise(random, grid, side) / np.float32(grid**fall)
    return total


def _noise(random: np.random.Generator, grid: int, side: int) -> Field:
    """Noise on a coarse grid, enlarged to (side, side)."""
    coarse = Image.fromarray(random.standard_normal((grid, grid), dtype=np.float32))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def sample_files(folder: Path) -> list[Path]:
    """The sample images of a folder, in order of name."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))


def variations(folder: Path, count: int, seed: int = 0, side: int = 256) -> list[bytes]:
    """PNG files of the samples in turn, each drawn anew: moved, scaled, turned, mirrored, in other light and colours.

    Lossless, so that what both engines read is the same to the bit.
    """
    random = np.random.default_rng(seed)
    originals = [ImageOps.exif_transpose(Image.open(path)).convert("RGBA") for path in sample_files(folder)]
    return [_variation(originals[number % len(originals)], random, side) for number in range(count)]


def _variation(original: Image.Image, random: np.random.Generator, side: int) -> bytes:
    picture = original.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.3 else original
    inner = int(side * random.uniform(0.55, 0.95))
    picture = picture.resize((inner, inner), Image.Resampling.BICUBIC)
    picture = picture.rotate(random.uniform(-25, 25), Image.Resampling.BICUBIC, expand=True)
    ground = random.integers(190, 256, 3) if random.random() < 0.7 else random.integers(0, 256, 3)
    canvas = Image.new("RGBA", (side, side), (*(int(value) for value in ground), 255))
    room = (side - picture.width, side - picture.height)
    place = tuple(int(random.uniform(min(0, space), max(0, space))) for space in room)
    layer = Image.new("RGBA", (side, side))
    layer.paste(picture, (place[0], place[1]))
    drawn = Image.alpha_composite(canvas, layer).convert("RGB")
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        drawn = enhancer(drawn).enhance(random.uniform(0.75, 1.25))
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
