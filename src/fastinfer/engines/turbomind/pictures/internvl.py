"""InternVL: an image as one tile, or cut into tiles with the whole image as a further one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastinfer.engines.turbomind.pictures.levels import PixelLevels
from fastinfer.engines.turbomind.pictures.prepared import checked_size, resized
from fastinfer.images.prepared import Pixels, PreparedImage

__all__ = ["InternVLPreparation"]


class InternVLPreparation:
    """Images for InternVL's encoder: (tiles, 3, height, width).

    With more than one tile, the image is resized to the grid of tiles whose shape comes nearest to its own and cut.
    Between grids that are equally near, the one with more tiles is taken as long as the image has more than half of
    its pixels. This is the rule of both the original processor and of Transformers' ``GotOcr2ImageProcessor``; they go
    through grids of equally many tiles in different orders, which matters for no image where `min_tiles` is 1.

    Args:
        side: (width, height) of a tile in pixels, which the encoder fixes; both even.
        tokens_per_tile: tokens that one tile takes in the prompt.
        mean: of each channel; see :func:`~fastinfer.engines.turbomind.pictures.levels.normalised_levels`.
        std: likewise.
        rescale: likewise.
        dtype: ``bfloat16`` or ``float16``.
        max_tiles: the most tiles, at least 1, the whole image not counted; 1 resizes the image to one tile.
        min_tiles: the fewest, 1 to `max_tiles`.
        thumbnail: whether the whole image, as one more tile, follows the tiles where there are several.

    Attributes:
        image_size: `side`, or None where images are cut.
        most_tokens: the most tokens that one image can take.

    Raises:
        ValueError: an argument is out of its range.
    """

    __slots__ = ("_grids", "_levels", "_side", "_thumbnail", "_tokens_per_tile", "dtype", "image_size", "most_tokens")

    def __init__(
        self,
        *,
        side: tuple[int, int],
        tokens_per_tile: int,
        mean: Sequence[float],
        std: Sequence[float],
        rescale: float,
        dtype: str,
        max_tiles: int,
        min_tiles: int = 1,
        thumbnail: bool,
    ) -> None:
        width, height = side
        if width < 2 or height < 2 or width % 2 or height % 2:
            raise ValueError(f"the sides of a tile must be even and above 0, not {width}x{height}")
        if tokens_per_tile < 1:
            raise ValueError(f"tokens_per_tile must be at least 1, not {tokens_per_tile}")
        if not 1 <= min_tiles <= max_tiles:
            raise ValueError(f"min_tiles must be 1 to max_tiles, not {min_tiles} with max_tiles {max_tiles}")
        self._side = side
        self._tokens_per_tile = tokens_per_tile
        self._thumbnail = thumbnail
        self.dtype = dtype
        self._levels = PixelLevels(mean=mean, std=std, rescale=rescale, dtype=dtype)
        self._grids = _grids(min_tiles, max_tiles)
        self.image_size = side if max_tiles == 1 else None
        self.most_tokens = self._tiles((max_tiles, 1)) * tokens_per_tile

    def tokens(self, width: int, height: int) -> int:
        """The tokens that an image of this size, in pixels, takes."""
        return self._tiles(self._grid(width, height)) * self._tokens_per_tile

    def prepare(self, pixels: Pixels) -> PreparedImage:
        """One image for the encoder: its tiles row by row, then the thumbnail.

        Args:
            pixels: (height, width, 3) uint8, RGB.

        Raises:
            ValueError: `pixels` is of another type or shape, or empty.
        """
        columns, rows = grid = self._grid(*checked_size(pixels))
        width, height = self._side
        canvas = resized(pixels, (columns * width, rows * height))
        planes = np.empty((self._tiles(grid), 3, height, width), dtype=np.uint8)
        cut = planes[: columns * rows].reshape(rows, columns, 3, height, width)
        cut[...] = canvas.reshape(rows, height, columns, width, 3).transpose(0, 2, 4, 1, 3)
        if len(planes) > columns * rows:
            planes[-1] = resized(pixels, self._side).transpose(2, 0, 1)
        data = np.empty(planes.shape, dtype=np.uint16)
        for tile, bits in zip(planes, data, strict=True):
            self._levels.look_up(tile, bits)
        return PreparedImage(data, len(data) * self._tokens_per_tile, None)

    def _tiles(self, grid: tuple[int, int]) -> int:
        columns, rows = grid
        tiles = columns * rows
        return tiles + 1 if self._thumbnail and tiles > 1 else tiles

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """(columns, rows) of tiles for an image of this size in pixels."""
        shape, twice_pixels, tile_pixels = width / height, 2 * width * height, self._side[0] * self._side[1]
        best, best_distance = self._grids[0], float("inf")
        for columns, rows in self._grids:
            distance = abs(shape - columns / rows)
            if distance < best_distance or (distance == best_distance and twice_pixels > columns * rows * tile_pixels):
                best, best_distance = (columns, rows), distance
        return best


def _grids(min_tiles: int, max_tiles: int) -> tuple[tuple[int, int], ...]:
    """(columns, rows) of every grid of so many tiles, those with fewer tiles first, then those with fewer columns."""
    sides = range(1, max_tiles + 1)
    grids = [(columns, rows) for columns in sides for rows in sides if min_tiles <= columns * rows <= max_tiles]
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))
