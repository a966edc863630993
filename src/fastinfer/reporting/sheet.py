"""The few results that the contact sheet shows, kept while all of them go by."""

from __future__ import annotations

import heapq
import os
from dataclasses import replace

from fastinfer.images import ImageSource
from fastinfer.reporting.pictures import data_url
from fastinfer.reporting.results import ShownImage

__all__ = ["Shortlist", "source_path"]


class Shortlist:
    """Those of lowest rank, the earlier of equal ones.

    Of an image in memory a small copy is made at once, so that no large ones are held; files are read at the end.

    Args:
        size: how many.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # A heap has its lowest on top, which here must be what is given up first.
        self._kept: list[tuple[float, int, ShownImage, str | None]] = []
        self._seen = 0

    def add(self, rank: float, image: ShownImage, source: ImageSource | None) -> None:
        """Keep an image if it is among the lowest so far.

        Args:
            rank: its place in the order.
            image: what is known of it, without its picture.
            source: the image itself, if there is one.
        """
        self._seen += 1
        order = (-rank, -self._seen)
        if len(self._kept) == self._size and order < self._kept[0][:2]:
            return
        path = source_path(source)
        if source is not None and path is None:
            image = replace(image, picture=data_url(source))
        entry = (*order, image, path)
        if len(self._kept) < self._size:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heapreplace(self._kept, entry)

    def images(self) -> tuple[ShownImage, ...]:
        """Those kept, lowest rank first, with their pictures."""
        return tuple(
            image if path is None else replace(image, picture=data_url(path))
            for _, _, image, path in sorted(self._kept, key=lambda entry: entry[:2], reverse=True)
        )


def source_path(source: ImageSource | None) -> str | None:
    """Where an image can be read again; None for one in memory."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return path if isinstance(path, str) and path[:5].lower() != "data:" else None
    return None
